"""Traces whose prompts are text: AIPerf's conversations and vLLM's logs, of several versions."""

from __future__ import annotations

import gzip

import pytest

from kvsim.errors import CapacityError, WorkloadError
from kvsim.workload.lint import lint_trace
from kvsim.workload.read import read_trace
from kvsim.workload.workload import Workload


def told(workload: Workload) -> set[tuple[int, int, float, bool]]:
    prompts = workload.prompt_tokens.tolist()
    columns = (column.tolist() for column in workload.graph.waits())
    return {(prompts[row], prompts[on], round(delay, 9), sent) for row, on, delay, sent in zip(*columns, strict=True)}


def says(tokens: int, answer: int = 5, **more: object) -> dict[str, object]:
    """A turn of so many tokens, whose text no other has."""
    text = chr(0x4E00 + tokens) * (4 * tokens)
    return {"messages": [{"role": "user", "content": text}], "max_tokens": answer, **more}


def session(name: str, *turns: dict[str, object], **more: object) -> dict[str, object]:
    return {"session_id": name, "turns": list(turns), **more}


def test_turns_carry_what_was_said_and_wait_for_it(json_lines) -> None:
    turns = [
        {"role": "system", "text": "s" * 64},
        {"text": "a" * 64, "output_length": 16},
        {"texts": ["b" * 30, {"name": "x", "contents": ["c" * 34]}], "delay": 2000, "output_length": 8},
    ]
    read = read_trace(json_lines([{"session_id": "s", "turns": turns}]))
    assert read.info.format == "aiperf_turns"
    assert read.prompt_tokens.tolist() == [32, 64] and read.output_tokens.tolist() == [16, 8]
    assert told(read) == {(64, 32, 2.0, False)}
    # The prompt before and its whole answer, three blocks of 16, are hit.
    assert read.info.infinite_cache_hit_rate_tokens == pytest.approx(48 / 96)
    assert "a token is taken for 4 characters" in " ".join(read.info.notes)


def test_fixed_times_are_kept_and_the_answer_is_waited_for(json_lines) -> None:
    turns = [says(10, timestamp=500), says(3, timestamp=2500)]
    read = read_trace(json_lines([session("s", *turns)]))
    assert read.arrival_s.tolist() == [0.0, 2.0] and read.graph.earliest_s.tolist() == [0.0, 2.0]
    assert told(read) == {(18, 10, 0.0, False)}


def test_equal_texts_are_one_prefix_across_sessions(json_lines) -> None:
    turn = {"text": "same text " * 20, "output_length": 4}
    read = read_trace(json_lines([{"turns": [turn]}, {"turns": [turn]}]))
    assert read.info.infinite_cache_hit_rate_tokens == pytest.approx(48 / 100)


def test_spawns_are_joined_and_forks_go_on(json_lines) -> None:
    path = json_lines(
        [
            session(
                "root",
                says(10, spawns=["a", {"children": ["b"], "join_at": 2}]),
                says(20, delay=100),
                says(30, forks=["f", {"child": "g", "background": True}]),
            ),
            session("a", says(100), says(200, delay=50)),
            session("b", says(1000)),
            session("f", says(7)),
            session("g", says(8)),
        ]
    )
    read = read_trace(path)
    first, second, third = 10, 10 + 5 + 20, 10 + 5 + 20 + 5 + 30
    assert told(read) == {
        (100, first, 0.0, False),
        (305, 100, 0.05, False),
        (1000, first, 0.0, False),
        (second, first, 0.1, False),
        (second, 305, 0.1, False),
        (third, second, 0.0, False),
        (third, 1000, 0.0, False),
        (third + 5 + 7, third, 0.0, False),
        (third + 5 + 8, third, 0.0, False),
    }
    assert len(set(read.session_id.tolist())) == 5


def test_pre_session_spawns_begin_with_their_parent(json_lines) -> None:
    path = json_lines([session("root", says(10, delay=5), pre_session_spawns=["a"]), session("a", says(100))])
    assert told(read_trace(path)) == {(100, 10, 0.0, True)}


@pytest.mark.parametrize("rounds", [2, [{"spawns": ["a", "b"]}, {"spawns": ["a", "b"]}]])
def test_rounds_wait_for_the_one_before(json_lines, rounds) -> None:
    orchestrator = {"session_id": "o", "orchestrator": True, "think_time_ms": 300, "rounds": rounds}
    if isinstance(rounds, int):
        orchestrator["spawns"] = ["a", "b"]
    read = read_trace(json_lines([orchestrator, session("a", says(10)), session("b", says(20))]))
    assert len(read) == 4
    assert told(read) == {(one, other, 0.3, False) for one in (10, 20) for other in (10, 20)}


def test_isolated_turns_are_sent_as_they_stand(json_lines) -> None:
    read = read_trace(json_lines([session("s", says(10), says(20), context_mode="message_array_with_responses")]))
    assert read.prompt_tokens.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([session("a", says(1, spawns=["z"]))], ":1: spawns is 'z', which no session is; known: a"),
        ([session("r", says(1, spawns=["a"])), session("a", says(2, forks=["a"]))], ":2: session 'a' spawns itself"),
        (
            [
                session("r", says(1, spawns=["a"])),
                session("a", says(2, spawns=["b"])),
                session("b", says(3, forks=["a"])),
            ],
            ":2: session 'a' spawns itself, through 'b'",
        ),
        ([session("a", says(2, forks=["b"])), session("b", says(3, forks=["a"]))], ":1: session_id is 'a'; allowed: "),
        ([session("a", says(1)), session("a", says(1))], ":2: session_id is 'a'; allowed: each id once"),
        ([session("a")], ":1: turns is []; allowed: one turn or more"),
        ([session("a", "x")], ":1: turns is ['x']; allowed: a list of objects"),
        ([session("a", says(1, delay=-5))], ":1: delay is -5; allowed: a finite number"),
        ([session("a", {"text": 7, "output_length": 3})], ":1: text is 7; allowed: text, or messages"),
        (
            [session("a", says(1, spawns=[{"children": ["b"], "join_at": 0}])), session("b", says(2))],
            "join_at is 0; allo",
        ),
        (
            [session("a", says(1, spawns="b")), session("b", says(2))],
            ":1: spawns is 'b'; allowed: a list of session ids",
        ),
        (
            [{"session_id": "o", "orchestrator": True, "spawns": ["a"], "rounds": 0}, session("a", says(1))],
            "rounds is 0",
        ),
    ],
)
def test_wrong_conversations_are_one_line(json_lines, rows, message: str) -> None:
    path = json_lines(rows)
    with pytest.raises(WorkloadError) as wrong:
        read_trace(path, "aiperf_turns")
    assert message in str(wrong.value) and str(path) in str(wrong.value) and "\n" not in str(wrong.value)


def test_more_text_than_memory_holds_is_one_line(json_lines, monkeypatch) -> None:
    monkeypatch.setattr("kvsim.workload.formats.aiperf_turns._LOOK_EVERY", 100)
    monkeypatch.setattr("kvsim.room.available_bytes", lambda: 2000.0)
    path = json_lines([session("a", says(20)), session("b", says(20))])
    with pytest.raises(CapacityError, match=r":2: 160 characters of text so far: about .* GB of memory"):
        read_trace(path)


def params(most: int | None) -> str:
    return f"SamplingParams(n=1, temperature=0.0, stop=['prompt: x'], max_tokens={most}, min_tokens=0)"


IDS = list(range(40))
LINES = {
    "0.2": f"INFO 03-07 08:13:39 async_llm_engine.py:371] Received request cmpl-1: prompt: 'x', sampling params: "
    f"{params(7)}, prompt token ids: {IDS}.",
    "0.4": f"INFO 03-07 08:13:39 async_llm_engine.py:436] Received request cmpl-1: prompt: 'x', sampling_params: "
    f"{params(7)}, prompt_token_ids: {IDS}, lora_request: None.",
    "0.8": f"INFO 03-07 08:13:39 [logger.py:39] Received request cmpl-1-0: prompt: 'x', params: {params(7)}, "
    f"prompt_token_ids: {IDS}, lora_request: None, prompt_adapter_request: None.",
    "docker": f"vllm-server   | INFO 03-07 08:13:39 logger.py:39] Received request cmpl-1-0: prompt: 'x', params: "
    f"{params(7)}, prompt_token_ids: {IDS}, lora_request: None, prompt_adapter_request: None.",
    "0.11": f"(APIServer pid=1) DEBUG 03-07 08:13:39 [logger.py:31] Request cmpl-1-0 details: prompt: 'x', "
    f"prompt_token_ids: {IDS}, prompt_embeds shape: None.\n"
    "(APIServer pid=1) INFO 03-07 08:13:39 [logger.py:40] Received request cmpl-1-0: "
    f"params: {params(7)}, lora_request: None.",
}


@pytest.mark.parametrize("version", LINES)
def test_every_version_s_request_is_read(text_file, version: str) -> None:
    path = text_file("server.log", f"INFO 03-07 08:13:30 api.py:1] vLLM {version}\nsome text\n{LINES[version]}\n")
    read = read_trace(path)
    assert read.info.format == "vllm_log"
    assert (read.prompt_tokens.tolist(), read.output_tokens.tolist()) == ([40], [7])
    assert read.info.hash_block_tokens == 16
    assert "1 of 1 answers are taken for as long as their max_tokens" in " ".join(read.info.notes)


def logged(second: int, name: str, prompt: str, ids: list[int] | None, most: int | None = 20) -> str:
    return (
        f"INFO 03-07 08:13:{second:02d} [logger.py:39] Received request {name}: prompt: {prompt!r}, params: "
        f"{params(most)}, prompt_token_ids: {ids}, lora_request: None.\n"
    )


def test_ids_become_blocks_of_16_as_engines_hash_them(text_file) -> None:
    text = logged(1, "a", "x", IDS) + logged(3, "b", "y", IDS[:32] + [99] * 32) + logged(4, "c", "z", [7, *IDS])
    read = read_trace(text_file("server.log", text))
    assert read.arrival_s.tolist() == [0.0, 2.0, 3.0]
    assert read.info.infinite_cache_hit_rate_tokens == pytest.approx(32 / (40 + 64 + 41))


def test_text_alone_is_taken_for_a_token_every_four_characters(text_file) -> None:
    """With quotes, newlines and what looks like parameters in it."""
    tricky = 'He said: "it\'s", max_tokens=9999, prompt_token_ids: [1, 2]\n' * 4
    same = tricky + "p" * 64
    text = logged(1, "a", same, None) + logged(2, "b", same + "more", None) + logged(3, "c", "", [1, 2, 3])
    read = read_trace(text_file("server.log", text))
    assert read.prompt_tokens.tolist() == [-(-len(same) // 4), -(-(len(same) + 4) // 4), 3]
    assert read.output_tokens.tolist() == [20, 20, 20]
    blocks = len(same) // 64
    assert read.info.infinite_cache_hit_rate_tokens == pytest.approx(16 * blocks / read.prompt_tokens.sum())
    assert "2 of 3 prompts are known by their text alone: a token is taken for 4 characters" in read.info.notes


def test_answers_that_are_logged_have_their_own_length(text_file) -> None:
    text = (
        logged(1, "cmpl-1-0", "x", IDS)
        + logged(2, "chatcmpl-2", "x", IDS)
        + logged(3, "cmpl-3-0", "x", IDS)
        + "INFO 03-07 08:13:05 [logger.py:65] Generated response chatcmpl-2 (streaming delta): output: 'n', "
        + "output_token_ids: [1], finish_reason: streaming_delta\n"
        + "INFO 03-07 08:13:05 [logger.py:65] Generated response chatcmpl-2 (streaming complete): output: 'abcdefghi', "
        + "output_token_ids: None, finish_reason: streaming_complete\n"
        + "INFO 03-07 08:13:06 [logger.py:65] Generated response cmpl-1: output: 'output_token_ids: [1]', "
        + "output_token_ids: [5, 6, 7, 8], finish_reason: stop\n"
    )
    read = read_trace(text_file("server.log", text))
    assert read.output_tokens.tolist() == [4, 3, 20]
    assert "1 of 3 answers are taken for as long as their max_tokens" in " ".join(read.info.notes)


def test_new_year_and_compression(tmp_path) -> None:
    text = logged(1, "a", "x", IDS).replace("03-07 08:13:01", "12-31 23:59:59")
    text += logged(1, "b", "x", IDS).replace("03-07 08:13:01", "01-01 00:00:02")
    path = tmp_path / "server.log.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_trace(path).arrival_s.tolist() == [0.0, 3.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "INFO 03-07 08:13:39 api.py:1] vLLM\n",
            ": a log without 'Received request' lines; vllm serve --enable-log-requ",
        ),
        (
            f"INFO 03-07 08:13:39 [logger.py:40] Received request a: params: {params(3)}, lora_request: None.\n",
            "allowed: a prompt or its token ids (from vLLM 0.11 on: VLLM_LOGGING_LEVEL=DEBUG)",
        ),
        (logged(1, "a", "x", IDS).replace("[0, 1", "[0, x"), ":1: prompt_token_ids is '[0, x"),
        (
            logged(1, "a", "x", IDS) + "Received request b: prompt: 'x', params: P(max_tokens=3)\n",
            ":2: no time in front",
        ),
        (logged(1, "a", "x" * 90, None)[:150], "allowed: a prompt or its token ids"),
    ],
)
def test_wrong_logs_are_one_line(text_file, text: str, message: str) -> None:
    path = text_file("server.log", text)
    with pytest.raises(WorkloadError) as wrong:
        read_trace(path)
    assert message in str(wrong.value) and str(wrong.value).startswith(str(path)) and "\n" not in str(wrong.value)


def test_lint_of_a_log_goes_on_after_a_wrong_line(text_file) -> None:
    text = logged(1, "a", "x", IDS) + logged(2, "b", "x", IDS).replace("[0, 1", "[0, x") + logged(3, "c", "x", IDS)
    found = [finding.line for finding in lint_trace(text_file("s.log", text)) if finding.rule == "row"]
    assert found == [2]


def test_prompts_without_max_tokens_have_no_answer(text_file) -> None:
    text = logged(1, "a", "x", IDS, None) + logged(2, "b", "x", IDS)
    read = read_trace(text_file("server.log", text))
    assert len(read) == 1 and read.info.failed_rows == 1


def test_json_of_messages_with_parts_counts_the_text(json_lines) -> None:
    parts = [{"type": "text", "text": "t" * 40}, {"type": "image_url", "image_url": {"url": "x"}}]
    turn = {"messages": [{"role": "user", "content": parts}], "extra": {"max_completion_tokens": 9}}
    read = read_trace(json_lines([session("s", turn)]))
    assert (read.prompt_tokens.tolist(), read.output_tokens.tolist()) == ([10], [9])
    assert "images, audio and video are not counted" in read.info.notes
