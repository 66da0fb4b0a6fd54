"""The table survives what may happen to it, and is of one sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_sweep import plan_of, row_of

from kvsim.errors import KvsimError
from kvsim.sweep import table as module
from kvsim.sweep.finished import rows_in, write_finished
from kvsim.sweep.merge import merged, write_merged
from kvsim.sweep.plan import Plan
from kvsim.sweep.table import CSV, PARQUET, ROWS, Table
from kvsim.sweep.tasks import line_of

KEYS = "keys: {rate: [1, 2, 5]}\nreplications: 2\n"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, KEYS)


def fill(plan: Plan, folder: Path, *numbers: int, error: str | None = None) -> None:
    folder.mkdir(exist_ok=True)
    with Table(folder, plan).opened() as table:
        table.append([line_of(row_of(plan.run(number), float(number), error)) for number in numbers], ["{}"])


def done(plan: Plan, folder: Path) -> list[int]:
    with Table(folder, plan).opened() as table:
        return list(table.done)


def test_what_has_a_row_is_done(plan: Plan, tmp_path: Path) -> None:
    fill(plan, tmp_path, 3, 0)
    fill(plan, tmp_path, 5, error="it broke")
    assert done(plan, tmp_path) == [1, 0, 0, 1, 0, 2]
    assert [row["run"] for row in rows_in(tmp_path)] == [0, 3, 5]


def test_a_row_that_was_repeated_counts_once(plan: Plan, tmp_path: Path) -> None:
    fill(plan, tmp_path, 2, error="it broke")
    fill(plan, tmp_path, 2)
    assert done(plan, tmp_path)[2] == 1
    assert [(row["run"], row["error"]) for row in rows_in(tmp_path)] == [(2, None)]


@settings(max_examples=40)
@given(cut=st.integers(0, 10_000))
def test_a_kill_at_any_byte_costs_at_most_the_row_that_was_being_written(tmp_path_factory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    plan = plan_of(folder, KEYS)
    fill(plan, folder, 4, 1, 2)
    whole = (folder / ROWS).read_bytes()
    cut = cut % (len(whole) + 1)
    (folder / ROWS).write_bytes(whole[:cut])
    if 0 < cut < whole.index(b"\n") + 1:
        return  # the first line appears whole or not at all: it is no append
    for path in (CSV, PARQUET, "cpu.jsonl"):
        (folder / path).unlink(missing_ok=True)
    ends = whole[:cut].count(b"\n") - 1
    assert sum(done(plan, folder)) == max(0, ends)
    left = (folder / ROWS).read_bytes()
    assert left.endswith(b"\n") and whole.startswith(left)
    fill(plan, folder, *[number for number, found in enumerate(done(plan, folder)) if not found])
    assert [row["run"] for row in rows_in(folder)] == list(range(6))


def test_another_sweeps_table_is_refused(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(plan, tmp_path, 1)
    before = (tmp_path / ROWS).read_bytes()
    other = plan_of(tmp_path, "keys: {rate: [1, 2]}\nreplications: 2\n")
    with pytest.raises(KvsimError, match="is of another sweep; another --out is wanted"):
        Table(tmp_path, other).check()
    monkeypatch.setattr(module, "identity", lambda: "kvsim 99")
    with pytest.raises(KvsimError, match=r"has rows of kvsim .*, and this is kvsim 99; another --out"):
        Table(tmp_path, plan).check()
    assert (tmp_path / ROWS).read_bytes() == before


@pytest.mark.parametrize("text", ["a,b\n", "{}\n", '{"kvsim_sweep": 99}\n'])
def test_what_is_no_table_is_refused(plan: Plan, tmp_path: Path, text: str) -> None:
    (tmp_path / ROWS).write_text(text)
    with pytest.raises(KvsimError, match="is no table of a sweep"):
        Table(tmp_path, plan).check()


def test_files_of_others_are_not_written_over(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / CSV).write_text("mine\n")
    with pytest.raises(KvsimError, match=r"table.csv: is there, and no sweep's"):
        Table(tmp_path, plan).check()


def test_a_damaged_row_is_named(plan: Plan, tmp_path: Path) -> None:
    fill(plan, tmp_path, 0, 1)
    lines = (tmp_path / ROWS).read_text().splitlines()
    (tmp_path / ROWS).write_text("\n".join([lines[0], lines[1][:30], lines[2], ""]))
    with pytest.raises(KvsimError, match=r"runs.jsonl, line 2: is no row of a sweep"), Table(tmp_path, plan).opened():
        pass
    foreign = lines[2].replace(plan.run(1).id, plan.run(2).id)
    (tmp_path / ROWS).write_text(f"{lines[0]}\n{foreign}\n")
    with pytest.raises(KvsimError, match="run 1 is none of this sweep"), Table(tmp_path, plan).opened():
        pass


def test_damaged_rows_are_left_out_on_request_and_their_runs_missing(plan: Plan, tmp_path: Path) -> None:
    fill(plan, tmp_path, 0, 1, 2, 3)
    lines = (tmp_path / ROWS).read_text().splitlines()
    foreign = lines[3].replace(plan.run(2).id, plan.run(5).id)
    (tmp_path / ROWS).write_text("\n".join([lines[0], lines[1][:30], lines[2], foreign, lines[4], lines[4][:9]]))
    with Table(tmp_path, plan).opened(drops_damaged=True) as table:
        assert table.dropped == 2 and list(table.done) == [0, 1, 0, 1, 0, 0]
    assert (tmp_path / ROWS).read_text() == "\n".join([lines[0], lines[2], lines[4], ""])
    before = (tmp_path / ROWS).stat().st_mtime_ns
    with Table(tmp_path, plan).opened(drops_damaged=True) as table:
        assert table.dropped == 0
    assert (tmp_path / ROWS).stat().st_mtime_ns == before  # what is whole is not written anew


def test_one_process_at_a_time_writes(plan: Plan, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first, second = (Table(tmp_path, plan) for _ in range(2))
    with first.opened(), pytest.raises(KvsimError, match="another sweep is writing there"), second.opened():
        pass
    fill(plan, tmp_path, 0)


def test_shards_become_the_table_of_the_whole(plan: Plan, tmp_path: Path) -> None:
    a, b, whole, out = (tmp_path / name for name in ("a", "b", "whole", "out"))
    fill(plan, whole, *range(6))
    fill(plan, a, 4, 2, 0)
    fill(plan, b, 1, 3)
    out.mkdir()
    part = merged([a, b], out)
    assert list(part.rows) == [0, 1, 2, 3, 4] and part.header.num_runs == 6
    write_merged(part, out)
    fill(plan, b, 5)
    write_merged(merged([a, b], out), out)
    for folder in (whole, out):
        write_finished(folder)
    assert (out / ROWS).read_bytes() == (whole / ROWS).read_bytes()
    assert (out / CSV).read_bytes() == (whole / CSV).read_bytes()
    assert (out / PARQUET).read_bytes() == (whole / PARQUET).read_bytes()


def test_rows_that_contradict_each_other_are_no_table(plan: Plan, tmp_path: Path) -> None:
    a, b, out = (tmp_path / name for name in ("a", "b", "out"))
    fill(plan, a, 0)
    fill(plan, b, 0, error="it broke")
    assert merged([a, b], out).failed == merged([b, a], out).failed == 0
    row = json.loads((b / ROWS).read_text().splitlines()[1]) | {"error": None, "unified.goodput_requests_per_s": 9.0}
    (b / ROWS).write_text((b / ROWS).read_text().splitlines()[0] + "\n" + line_of(row) + "\n")
    with pytest.raises(KvsimError, match="run 0 has another row in another table"):
        merged([a, b], out)
    other = plan_of(tmp_path, "keys: {rate: [7]}\n")
    fill(other, tmp_path / "c", 0)
    with pytest.raises(KvsimError, match="is of another sweep than"):
        merged([a, tmp_path / "c"], out)
    with pytest.raises(KvsimError, match="no such table of a sweep"):
        merged([a, tmp_path / "nosuch"], out)


def test_columns_are_what_their_values_are(tmp_path: Path) -> None:
    import polars as pl

    text = "keys: {rate: [1, 2.5], tp: [1, 2], systems: [[pd], [unified]], load_of: [pd]}\n"
    plan = plan_of(tmp_path, text, head="mode: pd\n")
    fill(plan, tmp_path, *range(7))
    fill(plan, tmp_path, 7, error="it, too, broke")
    csv, parquet = write_finished(tmp_path)
    frame = pl.read_parquet(parquet)
    kinds = [frame.schema[name] for name in ("rate", "tp", "systems", "load_of", "seed", "unified.overloaded")]
    assert kinds == [pl.Float64, pl.Int64, pl.String, pl.String, pl.Int64, pl.Boolean]
    assert frame["run"].to_list() == list(range(8)) and frame["systems"][0] == '["pd"]'
    assert frame["error"].to_list() == [None] * 7 + ["it, too, broke"]
    assert frame["unified.goodput_requests_per_s"].to_list() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, None]
    assert len(csv.read_text().splitlines()) == 9


def test_chunks_of_rows_leave_no_mark(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that none of the first rows has is a number all the same."""
    with Table(tmp_path, plan).opened() as table:
        table.append([line_of(row_of(plan.run(n), None if n < 2 else float(n))) for n in range(6)], [])
    at_once = [path.read_bytes() for path in write_finished(tmp_path)]
    monkeypatch.setattr("kvsim.sweep.finished._CHUNK", 2)
    import polars as pl

    assert write_finished(tmp_path)[0].read_bytes() == at_once[0]
    assert pl.read_parquet(tmp_path / PARQUET).schema["unified.goodput_requests_per_s"] == pl.Float64
