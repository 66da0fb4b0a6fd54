from __future__ import annotations

import pytest

from kvsim.content import content_path
from kvsim.errors import WorkloadError
from kvsim.workload.formats import FORMATS
from kvsim.workload.lint import lint_trace
from kvsim.workload.reading import Reading


def found(path, **options) -> list[tuple[str, str, int]]:
    return [(finding.level, finding.rule, finding.line) for finding in lint_trace(path, Reading(**options))]


def mooncake(rows: list[tuple[int, int, list[int]]]) -> list[dict[str, object]]:
    return [{"timestamp": t, "input_length": n, "output_length": 5, "hash_ids": ids} for t, n, ids in rows]


def growing(rows: int) -> list[tuple[int, int, list[int]]]:
    """Two sessions in turn, each prompt one block longer."""
    return [(i * 700, 512 * (i // 2 + 1), [1000 * (i % 2) + j for j in range(i // 2 + 1)]) for i in range(rows)]


def test_a_clean_trace_has_no_findings(json_lines) -> None:
    assert found(json_lines(mooncake(growing(24)))) == []


@pytest.mark.parametrize("schema", [*FORMATS, "burstgpt_v1"])
def test_the_samples_are_clean(schema: str) -> None:
    (path,) = content_path("trace").glob(f"{schema}_sample.*")
    assert found(path) == []


def test_failed_rows(text_file) -> None:
    path = text_file("g.csv", "time_s,input,output\n0,10,0\n1,0,5\n2,10,5\n3,9,0\n")
    assert found(path) == [("error", "zero-prompt", 3), ("warning", "failed-row", 2)]
    assert lint_trace(path)[1].message == "2 of 4 rows without output tokens: failed requests"


def test_every_unreadable_row_is_a_finding(text_file) -> None:
    path = text_file("g.csv", "time_s,input,output\n0,10,1\nx,10,1\n2,-1,5\n3,4,4\n")
    assert found(path) == [("error", "row", 3), ("error", "row", 4)]
    good = '{"ts": 0, "input": 1, "output": 1}'
    lines = [good, "{", "7", '{"ts": 1, "input": 1}', good]
    assert found(text_file("g.jsonl", "\n".join(lines))) == [("error", "row", line) for line in (2, 3, 4)]


def test_times_out_of_order(text_file) -> None:
    assert found(text_file("g.csv", "time_s,input,output\n4,1,1\n3,1,1\n5,1,1\n")) == [("warning", "unsorted", 3)]


def test_coarse_times(text_file) -> None:
    path = text_file("g.csv", "time_s,input,output\n" + "".join(f"{i // 4 * 3},1,1\n" for i in range(40)))
    (finding,) = lint_trace(path)
    assert finding.rule == "coarse-times"
    assert "10 distinct times among 40 rows, about 3 s apart" in finding.message


@pytest.mark.parametrize(("column", "step", "words"), [("time_s", 4000, "too coarse"), ("time_ns", 500, "too fine")])
def test_units_that_cannot_be(text_file, column: str, step: int, words: str) -> None:
    path = text_file("g.csv", f"{column},input,output\n" + "".join(f"{i * step},1,1\n" for i in range(40)))
    (finding,) = lint_trace(path)
    assert finding.rule == "time-unit" and words in finding.message


def test_numbers_of_hash_ids(json_lines) -> None:
    path = json_lines(mooncake([(0, 512, [1]), (1, 513, [1]), (2, 512, [1, 2]), (3, 1024, [])]))
    assert found(path) == [("error", "few-hash-ids", 2), ("error", "many-hash-ids", 3)]
    assert "2 of 4 rows" in lint_trace(path)[0].message
    assert found(path, hash_tokens_per_block=2000)[0] == ("error", "few-hash-ids", 4)


def test_an_id_behind_two_prefixes(json_lines) -> None:
    path = json_lines(mooncake([(0, 1024, [1, 2]), (9, 1024, [1, 2]), (20, 1024, [3, 2]), (21, 512, [2])]))
    (finding,) = lint_trace(path)
    assert (finding.rule, finding.line) == ("hash-prefix", 3)
    assert finding.message.startswith("2 of 4 rows")


def test_a_block_everywhere_and_no_reuse(json_lines) -> None:
    common = json_lines(mooncake([(i * 100, 1024, [0, i % 5 + 1]) for i in range(30)]))
    assert found(common) == [("warning", "block-everywhere", 1)]
    fresh = json_lines(mooncake([(i * 100, 1024, [2 * i, 2 * i + 1]) for i in range(30)]))
    assert found(fresh) == [("warning", "little-reuse", 1)]


def test_what_cannot_be_read_at_all_is_an_error(tmp_path, text_file) -> None:
    with pytest.raises(WorkloadError, match="no such file"):
        lint_trace(tmp_path / "none.csv")
    with pytest.raises(WorkloadError, match="no column"):
        lint_trace(text_file("x.csv", "a,b\n1,2\n"))
