"""Every bad trace is answered by one line that names the place, the value and what is allowed."""

from __future__ import annotations

import json

import pytest

from kvsim.errors import WorkloadError
from kvsim.workload.read import read_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
GENERIC = "time,input,output\n"
MOONCAKE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'
REPORT = {"run": {"mode": "pd"}, "config": {}, "results": []}


def failure(path, **options) -> str:
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["the file is empty"]),
        ("\n \n", ["the file is empty"]),
        (AZURE, ["no rows", "at least one request"]),
        ("[]", ["no rows"]),
        (b"\xff\xfe\x00\x01binary", ["not text in UTF-8"]),
        (AZURE.encode() + b"2023-11-16 18:15:46,1,1\n" * 9000 + b"\xff", ["not text in UTF-8"]),
        (AZURE + "yesterday,1,1\n", [":2:", "TIMESTAMP is 'yesterday'", "allowed: a date such as"]),
        (AZURE + "2023-13-16 18:15:46,1,1\n", [":2:", "TIMESTAMP is '2023-13-16 18:15:46'"]),
        (AZURE + "2023-11-16 18:15:46,1,1\n2023-11-16 18:15:47,-3,1\n", [":3:", "ContextTokens is '-3'", "0 to"]),
        (AZURE + "2023-11-16 18:15:46,1.5,1\n", ["ContextTokens is '1.5'", "a whole number"]),
        (AZURE + "2023-11-16 18:15:46,many,1\n", ["ContextTokens is 'many'"]),
        (AZURE + "2023-11-16 18:15:46,,1\n", ["ContextTokens is ''"]),
        (AZURE + "2023-11-16 18:15:46,1,99999999999\n", ["GeneratedTokens is '99999999999'", "2147483647"]),
        (AZURE + "2023-11-16 18:15:46,1\n", [":2:", "2 columns where the header has 3"]),
        (AZURE + "2023-11-16 18:15:46,0,0\n", ["all 1 rows have no prompt or no output tokens"]),
        ("hour,words\n1,2\n", ["no column for the arrival time", "hour, words"]),
        ("time,words\n1,2\n", ["no column for the prompt tokens"]),
        ("time,input\n1,2\n", ["no column for the output tokens"]),
        (GENERIC + "nan,1,1\n", [":2:", "time is 'nan'", "a finite number"]),
        (GENERIC + "inf,1,1\n", ["time is 'inf'"]),
        (GENERIC + "-5,1,1\n", ["time is '-5'"]),
        (GENERIC + "1_000,1,1\n", ["time is '1_000'"]),
        (GENERIC + "2024-01-41,1,1\n", ["time is '2024-01-41'", "a date such as"]),
        (GENERIC + "2024-01-01 00:00:00,1,1\n5,1,1\n", [":3:", "dates in some rows and numbers in others"]),
        (GENERIC + '1,"1,1\n', ["2 columns where the header has 3"]),
        (MOONCAKE + "{broken\n", [":2:", "not JSON"]),
        (MOONCAKE + "[1, 2]\n", [":2:", "a row is a list"]),
        (MOONCAKE + MOONCAKE.replace("600", '"x"'), [":2:", "input_length is 'x'"]),
        (MOONCAKE + MOONCAKE.replace("600", "true"), ["input_length is True"]),
        (MOONCAKE + MOONCAKE.replace("600", "NaN"), ["input_length is nan"]),
        (MOONCAKE + MOONCAKE.replace("600", "9" * 5000), [":2:", "not JSON", "too many digits"]),
        (MOONCAKE + MOONCAKE.replace("input_length", "input_len"), [":2:", "no field 'input_length'", "'input_len'"]),
        (MOONCAKE.replace("[1, 2]", "[1, 2.5]"), ["hash_ids is [1, 2.5]", "whole numbers or strings"]),
        (MOONCAKE.replace("[1, 2]", "7"), ["hash_ids is 7"]),
        (MOONCAKE.replace("[1, 2]", '"[1, 2"'), ["hash_ids is '[1, 2'"]),
        ('{"rows": [{"time": 1, "input": 5, "output": 5}', [":1:", "the end of the file where one of , ]"]),
        ('[{"time": 1, "input": 5, "output": 5} 7]', [":1:", "'7' where one of"]),
        ("[[[", ["not JSON"]),
        ("[" * 100_000, ["nested too deeply"]),
        ('{\n"a": 1\n}', ["one JSON object of several lines; the keys are: a;", "allowed: one JSON object a line"]),
        ('{\n"a": 1\n}\n{\n"a": 2\n}', ["JSON objects of several lines each; of the first the keys are: a;"]),
        ("{\n}", ["the keys are: none;"]),
        (json.dumps({f"k{at}" * 99: at for at in range(9)}, indent=1), ["of several lines", "k5", ", ...; allowed"]),
        ('{\n"a": 1', ["not JSON"]),
        (json.dumps(REPORT, indent=2), ["a report of kvsim, and no trace; allowed: one JSON object a line"]),
        (json.dumps(REPORT), ["a report of kvsim, and no trace"]),
        (
            '{"input_toks": 3, "output_toks": 1, "arrival_time_ns": 0, "input_tok_ids": [1, 2]}',
            ["input_toks is 3", "the number of input_tok_ids, 2"],
        ),
        (
            '{"input_toks": 2, "output_toks": 1, "arrival_time_ns": 0, "input_tok_ids": [1, "b"]}',
            ["input_tok_ids is [1, 'b']", "whole token ids"],
        ),
        (
            '{"input_toks": 1, "output_toks": 3, "arrival_time_ns": 0, "input_tok_ids": [1], "output_tok_ids": [1, 2]}',
            ["output_toks is 3", "the number of output_tok_ids, 2"],
        ),
    ],
)
def test_bad_content(text_file, content, words: list[str]) -> None:
    path = text_file("trace.txt", content)
    message = failure(path)
    assert message.startswith(str(path))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fmt": "azur"}, "did you mean 'azure'"),
        ({"fmt": "mooncake"}, "no field 'timestamp' (known: ContextTokens, GeneratedTokens, TIMESTAMP)"),
        ({"limit": 0}, "workload limit is 0"),
        ({"time_unit": "sec"}, "workload time unit 'sec' is unknown; "),
        ({"arrival_scale": -1.0}, "arrival scale is -1.0"),
        ({"hash_tokens_per_block": 0}, "hash tokens per block is 0"),
        ({"fmt": "burstgpt"}, "no field 'Timestamp'"),
        ({"fmt": "bailian"}, "no field 'chat_id'"),
    ],
)
def test_bad_options(text_file, options: dict[str, object], words: str) -> None:
    message = failure(text_file("a.csv", AZURE + "2023-11-16 18:15:46,1,1\n"), **options)
    assert words in message


def test_bad_paths(tmp_path, text_file) -> None:
    text_file("trace.csv", "x")
    assert "no such file; did you mean" in failure(tmp_path / "trce.csv")
    assert failure(tmp_path / "nowhere" / "trace.csv").endswith("no such file")
    assert "not a file" in failure(tmp_path)


def test_hash_ids_that_no_block_explains(text_file) -> None:
    path = text_file("g.jsonl", '{"time": 1, "input": 1000, "output": 1, "hash_ids": [1, 2, 3]}\n')
    assert "--workload-hash-tokens-per-block" in failure(path)


def test_strict_reading_raises_the_first_lint_error(text_file) -> None:
    path = text_file("m.jsonl", MOONCAKE + MOONCAKE.replace("600", "1500"))
    assert len(read_trace(path)) == 2
    message = failure(path, strict=True)
    assert message.startswith(f"{path}:2: few-hash-ids: 1 of 2 rows")
    assert "3 of 512 tokens" in message
