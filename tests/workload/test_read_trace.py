from __future__ import annotations

import gzip
import json
import tracemalloc
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from kvsim.errors import WorkloadError
from kvsim.workload import columnar
from kvsim.workload.formats import FORMATS, detect
from kvsim.workload.lint import lint_trace
from kvsim.workload.read import read_trace
from kvsim.workload.tracefile import TraceFile
from kvsim.workload.workload import Workload

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"


def mooncake_row(timestamp: int, tokens: int, ids: list[int], output: int = 5) -> dict[str, object]:
    return {"timestamp": timestamp, "input_length": tokens, "output_length": output, "hash_ids": ids}


def lengths(workload: Workload) -> list[tuple[float, int, int]]:
    return [(request.arrival_s, request.prompt_tokens, request.output_tokens) for request in workload]


def test_azure_dates_keep_seven_decimals(text_file) -> None:
    rows = f"\ufeff{AZURE}\r\n2023-11-16 23:59:59.6805900,374,44\r\n2023-11-17 00:00:00.9951691,396,109"
    workload = read_trace(text_file("a.csv", rows))
    assert workload.info.format == "azure"
    assert lengths(workload) == [(0.0, 374, 44), (1.3145791, 396, 109)]
    assert [request.pieces for request in workload] == [((-1, 374),), ((-2, 396),)]
    assert "synthesised per request" in workload.info.notes[-1]
    assert not workload.info.generated_known and workload.info.infinite_cache_hit_rate is None


def test_azure_dates_of_2024_have_zones(text_file) -> None:
    rows = f"{AZURE}\n2024-05-12 00:00:00+00:00,1,2\n2024-05-12 02:00:00.5+02:00,3,4\n2024-05-12T00:00:01Z,5,6\n"
    assert lengths(read_trace(text_file("a.csv", rows))) == [(0.0, 1, 2), (0.5, 3, 4), (1.0, 5, 6)]


def test_mooncake_reads_milliseconds_and_blocks(json_lines) -> None:
    workload = read_trace(json_lines([mooncake_row(500, 1000, [7, 8]), mooncake_row(1750, 1100, [7, 9, 10])]))
    assert workload.info.format == "mooncake" and workload.info.hash_block_tokens == 512
    assert [(r.arrival_s, r.pieces, r.output_chain) for r in workload] == [
        (0.0, ((0, 512), (-1, 488)), -1),
        (1.25, ((0, 512), (-2, 588)), -2),
    ]
    assert workload.info.infinite_cache_hit_rate == 1 / 5
    assert workload.info.infinite_cache_hit_rate_full_blocks == 1 / 3
    assert workload.info.infinite_cache_hit_rate_tokens == 512 / 2100


def test_mooncake_as_csv_is_the_same(json_lines, text_file) -> None:
    rows = [mooncake_row(0, 1000, [7, 8]), mooncake_row(3000, 1100, [7, 9, 10])]
    table = "timestamp,input_length,output_length,hash_ids\n" + "".join(
        f'{r["timestamp"]},{r["input_length"]},{r["output_length"]},"{r["hash_ids"]}"\n' for r in rows
    )
    assert list(read_trace(text_file("m.csv", table))) == list(read_trace(json_lines(rows)))
    spaced = "timestamp,input_length,output_length,hash_ids\n0,1000,5,7 8\n3000,1100,5,7;9;10\n"
    assert list(read_trace(text_file("s.csv", spaced))) == list(read_trace(json_lines(rows)))


def test_another_hash_block_may_be_said(json_lines) -> None:
    path = json_lines([mooncake_row(0, 30, [1, 2]), mooncake_row(1, 40, [1, 2, 3])])
    workload = read_trace(path, hash_tokens_per_block=16)
    assert [request.pieces for request in workload] == [((0, 30),), ((0, 32), (-2, 8))]


def test_sharegpt_hashes_full_blocks_of_token_ids(json_lines) -> None:
    head = list(range(32))
    rows = [
        {"input_toks": 40, "output_toks": 3, "arrival_time_ns": 46926808, "input_tok_ids": head + [1] * 8},
        {"input_toks": 33, "output_toks": 4, "arrival_time_ns": 1046926808, "input_tok_ids": [*head, 1]},
        {"input_toks": 32, "output_toks": 4, "arrival_time_ns": 2046926808, "input_tok_ids": head[::-1]},
    ]
    workload = read_trace(json_lines(rows))
    assert workload.info.format == "sharegpt"
    assert [(r.arrival_s, r.pieces) for r in workload] == [
        (0.0, ((0, 32), (-1, 8))),
        (1.0, ((0, 32), (-2, 1))),
        (2.0, ((-3, 32),)),
    ]
    assert workload.info.lint == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("g.csv", "Arrival Time (s),Prompt Tokens,Output-Tokens\n3.5,10,2\n4.5,11,3\n"),
        ("g.tsv", "time\tISL\tOSL\n3.5\t10\t2\n4.5\t11\t3\n"),
        ("g.jsonl", '{"ts": 3.5, "input": 10, "output": 2}\n\n{"ts": 4.5, "input": 11.0, "output": "3"}\n'),
        ("g.json", '[{"arrival_ms": 3500, "input_len": 10, "output_len": 2},\n'
                   ' {"arrival_ms": 4500, "input_len": 11, "output_len": 3}]'),
        ("g.json", '{"meta": {"rows": [1]}, "n": 2, "Requests": [{"arrival": 1, "prompt": 10, "response": 2}, '
                   '{"arrival": 2, "prompt": 11, "response": 3}]}'),
        ("g.csv", "timestamp,prompt_len,output_len\n2024-01-01 00:00:07,10,2\n2024-01-01T00:00:08Z,11,3\n"),
        ("g.csv", "timestamp,prompt_len,output_len\n1700000000500,10,2\n1700000001500,11,3\n"),
    ],
)  # fmt: skip
def test_generic_tables_are_understood(text_file, name: str, content: str) -> None:
    workload = read_trace(text_file(name, content))
    assert workload.info.format == "generic"
    assert lengths(workload) == [(0.0, 10, 2), (1.0, 11, 3)]


@pytest.mark.parametrize(
    ("gap", "asked", "span_s"),
    [(1, "auto", 99.0), (500, "auto", 49.5), (500_000, "auto", 49.5), (500, "us", 0.0495), (2, "ns", 1.98e-7)],
)
def test_units_of_bare_numbers(text_file, gap: int, asked: str, span_s: float) -> None:
    rows = "time,input,output\n" + "".join(f"{gap * i},1,1\n" for i in range(100))
    workload = read_trace(text_file("g.csv", rows), time_unit=asked)
    assert workload.span_s == pytest.approx(span_s)
    assert any("--workload-time-unit" in note for note in workload.info.notes) == (asked == "auto")


def test_a_unit_for_dates_is_ignored_with_a_note(text_file) -> None:
    workload = read_trace(text_file("a.csv", f"{AZURE}\n2024-05-12 00:00:00,1,2\n"), time_unit="ms")
    assert "ignored" in workload.info.notes[0]


def test_generic_sessions_share_one_stream(text_file) -> None:
    rows = "time,session_id,input,output\n0,a,10,5\n1,b,7,1\n2,a,20,5\n3,,9,1\n"
    workload = read_trace(text_file("g.csv", rows))
    first, lone, second, none = workload
    assert first.session_id == second.session_id and none.session_id == -1
    assert (first.pieces, second.pieces) == (((0, 10),), ((0, 20),))
    assert first.output_chain == second.output_chain == 0
    assert lone.pieces == ((-2, 7),) and none.pieces == ((-4, 9),)
    assert workload.info.generated_known
    assert "per session" in workload.info.notes[-1]


def test_generic_hash_blocks_are_inferred(json_lines) -> None:
    rows = [{"time": i, "input": 40 + i, "output": 1, "hash_ids": ["s", "t", f"u{i}"]} for i in range(3)]
    workload = read_trace(json_lines(rows))
    assert workload.info.hash_block_tokens == 16
    assert [request.pieces[0] for request in workload] == [(0, 32)] * 3
    assert any("blocks of 16 tokens" in note for note in workload.info.notes)


def test_unsorted_rows_are_sorted_and_ties_keep_their_order(text_file) -> None:
    rows = "time,input,output\n5,1,1\n3,2,1\n5,3,1\n3,4,1\n"
    workload = read_trace(text_file("g.csv", rows), time_unit="s")
    assert lengths(workload) == [(0.0, 2, 1), (0.0, 4, 1), (2.0, 1, 1), (2.0, 3, 1)]
    assert "rows were not in time order: sorted" in workload.info.notes


def test_failed_rows_are_left_out_unless_asked_for(text_file) -> None:
    path = text_file("g.csv", "time,input,output\n0,10,0\n1,0,5\n2,10,5\n")
    workload = read_trace(path)
    assert lengths(workload) == [(0.0, 10, 5)]
    assert workload.info.failed_rows == 2
    assert workload.info.notes[-2] == "2 of 3 rows have no prompt or no output tokens: left out"
    assert lengths(read_trace(path, include_failed=True)) == [(0.0, 10, 1), (1.0, 1, 5), (2.0, 10, 5)]


def test_limit_counts_usable_rows(text_file) -> None:
    path = text_file("g.csv", "time,input,output\n0,10,0\n1,10,5\n2,11,5\n3,12,5\n")
    assert lengths(read_trace(path, limit=2)) == [(0.0, 10, 5), (1.0, 11, 5)]
    assert len(read_trace(path, limit=99)) == 3


def test_arrival_scale_stretches_time(text_file) -> None:
    path = text_file("g.csv", "time,input,output\n0,10,5\n2,11,5\n")
    assert lengths(read_trace(path, arrival_scale=2.5)) == [(0.0, 10, 5), (5.0, 11, 5)]


def test_prompts_with_too_few_or_many_ids_are_read_with_notes(json_lines) -> None:
    workload = read_trace(json_lines([mooncake_row(0, 2000, [1]), mooncake_row(9, 512, [1, 2])]))
    assert [request.pieces for request in workload] == [((0, 512), (-1, 1488)), ((0, 512),)]
    assert "1 hash ids lie beyond their prompts: ignored" in workload.info.notes
    assert any(note.startswith("1,488 prompt tokens have no hash id") for note in workload.info.notes)


@pytest.mark.parametrize("layout", ["jsonl", "list", "mapping", "csv"])
def test_memory_follows_the_limit(text_file, layout: str) -> None:
    rows = [{"time": i, "input": 100, "output": 5, "hash_ids": [i] * 40} for i in range(30_000)]
    if layout == "csv":
        body = "time,input,output,hash_ids\n" + "".join(f"{i},100,5,{'9 ' * 40}\n" for i in range(60_000))
    elif layout == "jsonl":
        body = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        body = json.dumps(rows if layout == "list" else {"note": "x", "data": rows})
    path = text_file("big", body)
    size = path.stat().st_size
    del rows, body
    read_trace(path, limit=1, hash_tokens_per_block=512)
    tracemalloc.start()
    workload = read_trace(path, limit=100, hash_tokens_per_block=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(workload) == 100
    assert size > 4e6 and peak < 1.5e6


def test_a_broken_tail_is_not_read_under_a_limit(json_lines, text_file) -> None:
    rows = "".join(json.dumps(mooncake_row(i, 10, [i])) + "\n" for i in range(10))
    assert len(read_trace(text_file("m.jsonl", rows + '{"timestamp": broken'), limit=10)) == 10


@pytest.mark.parametrize("schema", list(FORMATS))
def test_detection_knows_each_sample(schema: str) -> None:
    from kvsim.content import content_path

    (path,) = content_path("trace").glob(f"{schema}_sample.*")
    assert detect(TraceFile(path)) == schema


def test_rows_of_a_schema_with_mooncakes_names_but_other_units_are_not_mooncake(json_lines) -> None:
    row = {"chat_id": 1, "parent_chat_id": -1, **mooncake_row(3, 30, [1, 2])}
    assert detect(TraceFile(json_lines([row]))) == "bailian"


def test_the_azure_conversation_trace(shared_data) -> None:
    workload = read_trace(shared_data / "traces/AzureLLMInferenceTrace_conv.csv")
    assert len(workload) == 19_366
    assert workload.span_s == pytest.approx(3501.721937, abs=1e-9)
    assert int(workload.prompt_tokens.sum()) == 22_361_870 and int(workload.output_tokens.sum()) == 4_088_665
    assert workload.info.lint == () and workload.info.failed_rows == 0


def test_the_mooncake_conversation_trace(shared_data) -> None:
    workload = read_trace(shared_data / "traces/mooncake_conversation_trace.jsonl")
    assert len(workload) == 12_031
    assert {finding.rule for finding in workload.info.lint} == {"coarse-times", "block-everywhere"}
    # Block 0 is in every request, so every prompt begins on one chain.
    assert {request.pieces[0][0] for request in workload} == {0}
    assert all(a.arrival_s <= b.arrival_s for a, b in pairwise(workload))


def test_the_sharegpt_replay(shared_data) -> None:
    workload = read_trace(shared_data / "measured/sharegpt-llama-3.1-8b-300-sps10.jsonl")
    assert len(workload) == 300 and workload.info.format == "sharegpt"
    assert 0 < workload.info.infinite_cache_hit_rate_tokens < 0.2


ROWS = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.5,10,2\n2023-11-16 18:17:04.5,20,3\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("packed", ["plain", "gzip", "zip"])
def test_compressed_files_and_other_encodings(tmp_path: Path, encoding: str, packed: str) -> None:
    path, content = tmp_path / "t.csv", ROWS.encode(encoding)
    if packed == "gzip":
        content = gzip.compress(content)
    path.write_bytes(content)
    if packed == "zip":
        path = tmp_path / "t.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("folder/", "")
            archive.writestr("__MACOSX/folder/._t.csv", b"\x00\x01")
            archive.writestr("folder/t.csv", content)
    assert lengths(read_trace(path)) == [(0.0, 10, 2), (1.0, 20, 3)]
    assert lint_trace(path) == []


def test_json_lines_in_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(json.dumps(mooncake_row(0, 600, [1, 2])).encode("utf-16"))
    assert len(read_trace(path)) == 1


def test_a_large_table_in_utf_16_is_read_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "LEAST_BYTES", 1)
    path = tmp_path / "t.csv"
    path.write_bytes(ROWS.encode("utf-16"))
    assert lengths(read_trace(path)) == [(0.0, 10, 2), (1.0, 20, 3)]


BAD_ARCHIVES = {
    "two": ({"a.csv": ROWS, "b.csv": ROWS}, "2 files in it: a.csv, b.csv; allowed: a zip file of one trace"),
    "none": ({".hidden": ROWS}, "0 files in it; allowed"),
}


@pytest.mark.parametrize(("files", "words"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_an_archive_of_one_trace_is_wanted(tmp_path: Path, files: dict[str, str], words: str) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(WorkloadError) as caught:
        read_trace(path)
    assert words in str(caught.value)


def test_damaged_archives_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", ROWS * 50)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[60] ^= 0xFF
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.rfind(b"PK\x01\x02") + 8] |= 1
    for content in (whole[:-30], bytes(flipped), bytes(locked)):
        path.write_bytes(content)
        with pytest.raises(WorkloadError) as caught:
            read_trace(path)
        assert str(caught.value).count("\n") == 0
