"""The public schemas with the quirks of their files: headers, line ends, quoting, exponents, compression."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest

from kvsim.errors import WorkloadError
from kvsim.workload.lint import lint_trace
from kvsim.workload.read import read_trace
from kvsim.workload.reading import Reading

V1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
V2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
SPLITWISE = "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"


def shown(workload) -> tuple[list[float], list[int], list[int], list[int]]:
    return (
        workload.arrival_s.tolist(),
        workload.prompt_tokens.tolist(),
        workload.output_tokens.tolist(),
        workload.session_id.tolist(),
    )


def rules(path, **options) -> list[tuple[str, int]]:
    return [(finding.rule, finding.line) for finding in lint_trace(path, Reading(**options))]


def bailian(chat: int, parent: int, time: float, ids: list[int], tokens: int | None = None) -> dict[str, object]:
    return {
        "chat_id": chat,
        "parent_chat_id": parent,
        "timestamp": time,
        "input_length": 16 * len(ids) if tokens is None else tokens,
        "output_length": 5,
        "type": "text",
        "turn": 1,
        "hash_ids": ids,
    }


def test_burstgpt_of_release_1(text_file) -> None:
    path = text_file("b.csv", V1 + "5,ChatGPT,472,18,490,Conversation log\n7,GPT-4,10,0,10,API log\n45,GPT-4,3,4,7,x")
    read = read_trace(path)
    assert read.info.format == "burstgpt" and read.info.failed_rows == 1
    assert shown(read) == ([0.0, 40.0], [472, 3], [18, 4], [-1, -1])


def test_burstgpt_of_release_2(text_file) -> None:
    rows = (
        "19440110.0,31a9,43,GPT-4,906,446,1352,Conversation log\r\n"
        '19440110.5,"",12,GPT-4,"1e2",2.0,102,API log\r\n'
        "1.94401215e7,31a9,1,GPT-4,5,5,10,Conversation log"
    )
    read = read_trace(text_file("b.csv", "\ufeff" + V2.replace("\n", "\r\n") + rows))
    assert shown(read) == ([0.0, 0.5, 11.5], [906, 100, 5], [446, 2, 5], [0, -1, 0])


def test_burstgpt_totals_that_do_not_add_up_are_found(text_file) -> None:
    path = text_file("b.csv", V1 + "5,ChatGPT,472,18,490,x\n6,ChatGPT,400,18,490,x\n7,ChatGPT,1,1,9,x\n")
    assert ("contradiction", 3) in rules(path)
    message = next(f.message for f in lint_trace(path) if f.rule == "contradiction")
    assert message.startswith("2 of 3 rows") and "Total tokens is 490, its parts make 418" in message
    with pytest.raises(WorkloadError, match=re.escape("b.csv:3: contradiction")):
        read_trace(path, strict=True)
    assert len(read_trace(path)) == 3


def test_whole_seconds_with_ties_are_bursts(text_file) -> None:
    rows = "".join(f"{10 + 2 * (i // 3)},ChatGPT,9,9,18,x\n" for i in range(60))
    assert ("coarse-times", 3) in rules(text_file("b.csv", V1 + rows))
    apart = "".join(f"{10 + 2 * i},ChatGPT,9,9,18,x\n" for i in range(60))
    assert rules(text_file("c.csv", V1 + apart)) == []
    few_ties = "".join(f"{10 + 2 * i - (i == 30) * 2},ChatGPT,9,9,18,x\n" for i in range(60))
    assert ("coarse-times", 32) in rules(text_file("d.csv", V1 + few_ties))


def test_splitwise(text_file) -> None:
    read = read_trace(text_file("s.csv", SPLITWISE + "0,2,0,1.25,1,100,7\n1,2,0,3.5,1,1e2,8\n"))
    assert read.info.format == "splitwise"
    assert shown(read) == ([0.0, 2.25], [100, 100], [7, 8], [-1, -1])
    path = text_file("t.csv", SPLITWISE + "0,2,0,1.25,1,100,7\n1,2,0,3.5,4,100,8\n")
    assert ("contradiction", 3) in rules(path)


def test_bailian_types_are_counted_and_turns_checked(json_lines) -> None:
    rows = [
        {**bailian(7, -1, 10.0, [1]), "turn": 1, "type": "text"},
        {**bailian(8, 7, 11.0, [1, 2]), "turn": 2, "type": "search"},
        {**bailian(9, 8, 12.0, [1, 2, 3]), "turn": 4, "type": "text"},
        {**bailian(10, 99, 13.0, [4]), "turn": 3, "type": "text"},
    ]
    read = read_trace(json_lines(rows))
    assert "requests by type: text 3, search 1" in read.info.notes
    assert rules(json_lines(rows))[0] == ("doubtful-row", 3)
    assert "turn is 4 behind turn 2 of its parent" in read.info.lint[0].message
    with pytest.raises(WorkloadError, match=":1: parent_chat_id is '7'; allowed: another chat_id than its own, or -1"):
        read_trace(json_lines([bailian(7, 7, 10.0, [1])]))


def test_bailian_sessions_are_roots_and_blocks_have_16_tokens(json_lines) -> None:
    rows = [
        bailian(7, -1, 10.0, [1, 2]),
        bailian(8, -1, 10.5, [9], tokens=12),
        bailian(11, 7, 61.9, [1, 2, 3, 4], tokens=60),
        bailian(12, 11, 70.0, [1, 2, 3, 5, 6]),
        bailian(13, 99, 71.0, [1, 9]),
    ]
    read = read_trace(json_lines(rows))
    assert read.info.format == "bailian" and read.info.hash_block_tokens == 16
    times_s, prompts, _, sessions = shown(read)
    assert times_s == pytest.approx([0.0, 0.5, 51.9, 60.0, 61.0])
    assert (prompts, sessions) == ([32, 12, 60, 80, 32], [0, 1, 0, 0, 2])
    requests = list(read)
    assert requests[0].pieces[0] == requests[2].pieces[0] or requests[2].pieces[0][0] == requests[0].pieces[0][0]


def test_aiperf_turns_follow_their_answers(json_lines) -> None:
    rows = [
        {"session_id": "a", "timestamp": 1000, "input_length": 600, "output_length": 50, "hash_ids": [1, 2]},
        {"session_id": "b", "input_length": 10, "output_length": 5, "hash_ids": [3]},
        {"session_id": "a", "delay": 500, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 4]},
        {"session_id": "a", "delay": 250.5, "input_length": 30, "output_length": 0, "hash_ids": [5]},
        {"session_id": "a", "delay": 7, "input_length": 40, "output_length": 6, "hash_ids": [6]},
    ]
    read = read_trace(json_lines(rows))
    assert read.info.format == "aiperf" and read.info.hash_block_tokens == 512
    assert read.prompt_tokens.tolist() == [10, 600, 1100, 40]
    # The failed turn is left out: the next waits for the one before it, both delays long.
    assert read.graph.as_turns()[0].tolist() == [-1, -1, 1, 2]
    assert read.graph.as_turns()[1][2:].tolist() == pytest.approx([0.5, 0.2505 + 0.007])
    assert read.arrival_s.tolist() == pytest.approx([0.0, 1.0, 1.0 + 50 * 0.02 + 0.5, 2.5 + 0.1 + 0.2505 + 0.007])
    whole = read_trace(json_lines(rows), include_failed=True)
    assert whole.graph.as_turns()[0].tolist() == [-1, -1, 1, 2, 3]
    assert "closed loop" in " ".join(read.info.notes)


def test_aiperf_without_delays_is_open(json_lines) -> None:
    rows = [
        {"session_id": "a", "timestamp": 5, "input_length": 600, "output_length": 50, "hash_ids": [1, 2]},
        {"session_id": "a", "timestamp": 9, "input_length": 600, "output_length": 50},
    ]
    read = read_trace(json_lines(rows))
    assert read.graph is None and read.arrival_s.tolist() == [0.0, 0.004]
    assert read.session_id.tolist() == [0, 0]


def test_a_delay_needs_a_session(json_lines) -> None:
    with pytest.raises(WorkloadError, match=r"trace.jsonl:1: delay is 5; allowed: a delay needs the session_id"):
        read_trace(json_lines([{"delay": 5, "input_length": 600, "output_length": 50}]))


def test_a_session_is_known_from_rows_behind_the_first(json_lines) -> None:
    """JSON rows leave out what they do not have: the first may look like Mooncake's."""
    rows = [
        {"timestamp": 0, "input_length": 600, "output_length": 50, "hash_ids": [1, 2]},
        {"timestamp": 10, "input_length": 600, "output_length": 50, "hash_ids": [3, 4], "session_id": "a"},
        {"delay": 0, "input_length": 700, "output_length": 50, "hash_ids": [3, 4], "session_id": "a"},
    ]
    read = read_trace(json_lines(rows))
    assert read.info.format == "aiperf" and read.graph.as_turns()[0].tolist() == [-1, -1, 1]
    assert read_trace(json_lines(rows[:1])).info.format == "mooncake"


def test_aiperf_turns_without_a_time_follow_at_once(json_lines) -> None:
    rows = [
        {"session_id": "a", "input_length": 10, "output_length": 50},
        {"session_id": "a", "input_length": 70, "output_length": 5},
        {"session_id": "a", "timestamp": 1, "delay": 500, "input_length": 90, "output_length": 5},
    ]
    read = read_trace(json_lines(rows))
    assert read.info.format == "aiperf" and read.graph.as_turns()[0].tolist() == [-1, 0, 1]
    assert read.graph.as_turns()[1][1:].tolist() == [0.0, 0.5]
    assert read.arrival_s.tolist() == pytest.approx([0.0, 1.0, 1.6])
    in_s = read_trace(json_lines(rows), time_unit="s")
    assert in_s.graph.as_turns()[1][2] == 500 and in_s.arrival_s.tolist() == pytest.approx([0.0, 1.0, 501.1])


def test_lengths_with_another_time_are_not_aiperfs(json_lines) -> None:
    read = read_trace(json_lines([{"arrival_time": 5, "input_length": 600, "output_length": 50}]))
    assert read.info.format == "generic"


@pytest.mark.parametrize(
    "header",
    ["Request Timestamp,Input Token Count,Output Token Count", "t,n_prompt_tokens,n_output_tokens",
     "submit time,input seq len,output seq len", "TS (s),Query Tokens,Answer-Tokens"],
)  # fmt: skip
def test_further_names_of_columns(text_file, header: str) -> None:
    read = read_trace(text_file("g.csv", f"{header}\n3.5,10,2\n4.5,11,3\n"), time_unit="s")
    assert shown(read)[:3] == ([0.0, 1.0], [10, 11], [2, 3])


def test_a_field_may_hold_the_ids_of_a_million_tokens(text_file) -> None:
    ids = " ".join(map(str, range(100_000, 162_500)))
    read = read_trace(text_file("g.csv", f"time_s,input,output,hash_ids\n1,1000000,5,{ids}\n"))
    assert read.info.hash_block_tokens == 16


@pytest.mark.parametrize("layout", ["csv", "jsonl", "json"])
def test_every_layout_may_be_compressed(tmp_path, layout: str) -> None:
    rows = [{"time_ms": 1000 * i, "input": 10 + i, "output": 5} for i in range(5)]
    text = {
        "csv": "time_ms,input,output\r\n" + "\r\n".join(f"{r['time_ms']},{r['input']},5" for r in rows),
        "jsonl": "\n".join(map(json.dumps, rows)),
        "json": json.dumps({"requests": rows}),
    }[layout]
    (tmp_path / "plain").write_text(text)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    plain, packed = read_trace(tmp_path / "plain"), read_trace(tmp_path / "packed.gz")
    assert shown(plain) == shown(packed) and len(plain) == 5


def test_a_cut_gzip_file_is_one_line(tmp_path) -> None:
    whole = gzip.compress(("time_s,input,output\n" + "".join(f"{i},{i % 977},5\n" for i in range(50_000))).encode())
    for size in (12, len(whole) // 2):
        (tmp_path / "cut.gz").write_bytes(whole[:size])
        with pytest.raises(WorkloadError, match=r"cut.gz: not a whole compressed file"):
            read_trace(tmp_path / "cut.gz")


def test_coarse_times_are_spread_on_request(text_file) -> None:
    path = text_file("t.csv", "time_s,input,output\n0,1,1\n0,2,1\n0,3,1\n3,4,1\n6,5,1\n6,6,1\n")
    spread = read_trace(path, dequantise=True)
    assert spread.arrival_s.tolist() == [0.0, 1.0, 2.0, 3.0, 6.0, 7.5]
    assert spread.prompt_tokens.tolist() == [1, 2, 3, 4, 5, 6]
    note = "arrival times spread: 5 of 6 requests shared theirs, 3 times in all, over up to 3 s each"
    assert note in spread.info.notes
    assert read_trace(path).arrival_s.tolist() == [0.0, 0.0, 0.0, 3.0, 6.0, 6.0]


def test_distinct_times_are_left_as_they_are(text_file) -> None:
    path = text_file("t.csv", "time_s,input,output\n0,1,1\n2,2,1\n3,4,1\n")
    read = read_trace(path, dequantise=True)
    assert read.arrival_s.tolist() == [0.0, 2.0, 3.0]
    assert not [note for note in read.info.notes if "spread" in note]


def test_mooncake_is_coarse_and_is_spread(shared_data) -> None:
    path = shared_data / "traces" / "mooncake_conversation_trace.jsonl"
    found = {finding.rule: finding for finding in lint_trace(path)}
    assert "1,180 distinct times among 12,031 rows, about 3 s apart" in found["coarse-times"].message
    assert found["coarse-times"].line > 1 and "block-everywhere" in found
    spread = read_trace(path, dequantise=True)
    assert len(np.unique(spread.arrival_s)) == len(spread)
    assert np.abs(spread.arrival_s - read_trace(path).arrival_s).max() < 10


ROWS: dict[str, list[dict[str, object]]] = {
    "azure": [
        {"TIMESTAMP": f"2024-05-12 00:00:0{i}.25+00:00", "ContextTokens": 9, "GeneratedTokens": 5} for i in range(3)
    ],
    "burstgpt": [
        {"Timestamp": 1.5 * i, "Model": "m", "Request tokens": 9, "Response tokens": 5, "Total tokens": 14}
        for i in range(3)
    ],
    "mooncake": [{"timestamp": 7 * i, "input_length": 9, "output_length": 5, "hash_ids": [i]} for i in range(3)],
    "splitwise": [{"arrival_timestamp": 1.5 * i, "prompt_size": 9, "token_size": 5} for i in range(3)],
    "bailian": [bailian(i, i - 1, 1.5 * i, [i], 9) for i in range(3)],
    "aiperf": [
        {"session_id": "a", "delay": 5 * i, "input_length": 9, "output_length": 5, "hash_ids": [i]} for i in range(3)
    ],
    "sharegpt": [
        {"input_toks": 2, "output_toks": 1, "arrival_time_ns": 10**9 * i, "input_tok_ids": [i, 7]} for i in range(3)
    ],
    "generic": [{"time_s": 1.5 * i, "prompt": 9, "response": 5, "conversation": "a"} for i in range(3)],
}


def csv_text(rows: list[dict[str, object]]) -> str:
    quoted = (",".join(f'"{value}"' for value in row.values()) for row in rows)
    return ",".join(rows[0]) + "\n" + "\n".join(quoted)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["csv", "jsonl", "json"])
@pytest.mark.parametrize("schema", list(ROWS))
def test_every_schema_in_every_layout_is_known(tmp_path, schema: str, layout: str, packed: bool) -> None:
    if (schema, layout) == ("sharegpt", "csv"):
        pytest.skip("token ids are lists of thousands: JSON alone")
    rows = ROWS[schema]
    lines = "\n".join(map(json.dumps, rows))
    text = {"csv": csv_text(rows), "jsonl": lines, "json": json.dumps({"data": rows})}[layout]
    (tmp_path / "trace").write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    (tmp_path / "plain.jsonl").write_text(lines)
    read = read_trace(tmp_path / "trace")
    assert read.info.format == schema and len(read) == 3
    assert list(read) == list(read_trace(tmp_path / "plain.jsonl"))
