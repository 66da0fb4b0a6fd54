"""Files broken on purpose: each rule finds its own, at its line, and nothing else does."""

from __future__ import annotations

import pytest

from kvsim.workload.lint import lint_trace
from kvsim.workload.reading import Reading

V2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def found(path, **options) -> list[tuple[str, str, int]]:
    return [(finding.level, finding.rule, finding.line) for finding in lint_trace(path, Reading(**options))]


def mooncake(time_ms: float, tokens: int, ids: list[int], output: int = 5, **more: object) -> dict[str, object]:
    return {"timestamp": time_ms, "input_length": tokens, "output_length": output, "hash_ids": ids, **more}


def table(rows: list[tuple[float, str, int, int]]) -> str:
    return "time_s,session,input,output\n" + "".join(f"{t},{s},{i},{o}\n" for t, s, i, o in rows)


def chats(sessions: int, turns: int, gap_s: float = 30.5) -> list[tuple[float, str, int, int]]:
    """Prompts that hold all that was said before."""
    rows = [(turn * gap_s + 0.25 * s, f"s{s}", 100 + 150 * turn, 50) for turn in range(turns) for s in range(sessions)]
    return sorted(rows)


def test_chats_with_their_history_are_clean(text_file) -> None:
    assert found(text_file("g.csv", table(chats(6, 6)))) == []


def test_an_elapsed_time_below_nothing(text_file) -> None:
    rows = "1.5,a,3,m,5,5,10,x\n2.5,,,m,5,5,10,x\n3.5,a,-4,m,5,5,10,x\n"
    path = text_file("b.csv", V2 + rows)
    assert found(path) == [("error", "contradiction", 4)]
    assert "Elapsed time is -4" in lint_trace(path)[0].message


def test_characters_for_tokens(text_file) -> None:
    rows = chats(6, 6)
    rows[7] = (*rows[7][:2], 5_000_000, 50)
    assert ("warning", "long-row", 9) in found(text_file("g.csv", table(rows)))


def test_rows_written_twice(text_file, json_lines) -> None:
    rows = chats(6, 6)
    assert found(text_file("g.csv", table([*rows[:9], *rows[8:]]))) == [("warning", "duplicate-row", 11)]
    blocks = [mooncake(700 * i, 512 * (i // 2 + 1), [1000 * (i % 2) + j for j in range(i // 2 + 1)]) for i in range(24)]
    assert found(json_lines([*blocks[:5], *blocks[4:]])) == [("warning", "duplicate-row", 6)]
    # The same lengths at one time, by nobody in particular, may be two requests.
    assert found(text_file("h.csv", "time_s,input,output\n" + "0.5,10,10\n" * 2 + "1.5,11,11\n")) == []


def test_turns_that_leave_their_history_out(text_file, json_lines) -> None:
    rows = [(t, s, 20 + (i % 7), o) for i, (t, s, _, o) in enumerate(chats(6, 6))]
    path = text_file("g.csv", table(rows))
    assert found(path) == [("warning", "short-turn", 8)]
    assert lint_trace(path)[0].message.startswith("30 of 36 rows are turns shorter than what their session has said")
    deltas = [
        mooncake(1000.5 * i, 600, [2 * i, 2 * i + 1] if i % 6 else [9000 + i // 2, 9001], session_id=f"s{i % 6}")
        for i in range(36)
    ]
    assert "short-turn" in [rule for _, rule, _ in found(json_lines(deltas))]


def test_sessions_of_one_request_share_nothing(text_file) -> None:
    lone = [(i * 1.5, f"s{i}", 100, 50) for i in range(24)]
    assert found(text_file("g.csv", table(lone))) == [("warning", "little-reuse", 2)]


def test_a_turn_without_its_parent(json_lines) -> None:
    def turn(chat: int, parent: int) -> dict[str, object]:
        return mooncake(float(chat), 16, [chat], chat_id=chat, parent_chat_id=parent)

    path = json_lines([turn(1, -1), turn(2, 1), turn(3, 99), turn(4, 98)])
    assert found(path) == [("warning", "doubtful-row", 3)]
    assert "2 of 4 rows are doubtful; the first: parent_chat_id is 99" in lint_trace(path)[0].message


def test_a_delay_without_a_turn_before_it(json_lines) -> None:
    rows = [
        {"session_id": "a", "timestamp": 0, "input_length": 5, "output_length": 5},
        {"session_id": "b", "delay": 10, "input_length": 5, "output_length": 5},
        {"session_id": "b", "delay": 10, "input_length": 5, "output_length": 5},
    ]
    assert found(json_lines(rows)) == [("warning", "doubtful-row", 2)]


def test_an_answer_of_unknown_length_is_a_failure(json_lines) -> None:
    rows = [
        {"session_id": "a", "timestamp": 0, "input_length": 5, "output_length": 5},
        {"session_id": "a", "delay": 10, "input_length": 25},
    ]
    assert found(json_lines(rows)) == [("warning", "failed-row", 2)]


def test_times_of_followers_are_not_judged(json_lines) -> None:
    """Sessions one after the other: their later turns lie behind the next session's start."""
    rows: list[dict[str, object]] = []
    for session in range(12):
        head = {"session_id": f"s{session}", "input_length": 500, "output_length": 50}
        rows += [{**head, "timestamp": session * 1500}, {**head, "delay": 60_000, "input_length": 900}]
    assert found(json_lines(rows)) == []


def test_an_id_of_two_lengths(json_lines) -> None:
    rows = [mooncake(1.5, 700, [1, 2]), mooncake(2.5, 700, [1, 2]), mooncake(9.5, 800, [1, 2])]
    assert found(json_lines(rows)) == [("error", "hash-length", 3)]


def test_rows_without_ids_among_others(json_lines) -> None:
    rows = [{"time_s": i, "input": 1024, "output": 5, "hash_ids": [1, 2 + i]} for i in range(4)]
    del rows[2]["hash_ids"]
    assert found(json_lines(rows)) == [("warning", "no-hash-ids", 3)]


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1e-3, "too fine"), (1e3, "too coarse")],
)
def test_an_hour_of_a_service_in_the_wrong_unit(text_file, factor: float, words: str) -> None:
    """12,000 requests in an hour, milliseconds and seconds taken for each other."""
    rows = "".join(f"{0.3 * i * factor:.7f},{100 + i % 997},50\n" for i in range(12_000))
    path = text_file("g.csv", "time_s,input,output\n" + rows)
    (finding,) = lint_trace(path)
    assert (finding.rule, finding.line) == ("time-unit", 2) and words in finding.message


def test_turns_faster_than_any_engine(text_file) -> None:
    """A slow trace gives its unit away by its sessions: 30 ms after the last turn began, 50 tokens were answered."""
    path = text_file("g.csv", table([(t / 1000, s, i, o * 20) for t, s, i, o in chats(6, 6)]))
    (finding,) = [finding for finding in lint_trace(path) if finding.rule == "time-unit"]
    assert "too fine" in finding.message
