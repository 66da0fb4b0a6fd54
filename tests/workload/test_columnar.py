"""Large tables read a column at a time give what reading them row by row gives, or are left to the row reader."""

from __future__ import annotations

import gzip
from datetime import datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.errors import WorkloadError
from kvsim.workload import columnar
from kvsim.workload.formats import FORMATS
from kvsim.workload.lint import lint_trace
from kvsim.workload.rawtrace import RawTrace, read_raw
from kvsim.workload.read import read_trace
from kvsim.workload.reading import Reading
from kvsim.workload.tracefile import TraceFile

V1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
V2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
SPLITWISE = "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
GENERIC = "time,session,input,output\n"
FORMAT_OF = {V1: "burstgpt", V2: "burstgpt", AZURE: "azure", SPLITWISE: "splitwise", GENERIC: "generic"}

times = st.sampled_from(["0", "5", "19440110.0", "1e3", ".5", "7.", "+3", " 4", "-1", "nan", "inf", "x", "", "1_0"])
tokens = st.sampled_from(["0", "1", "472", "1e2", "2.0", "2.5", "-3", "3000000000", "", "many", "007", "٣"])
sessions = st.sampled_from(["a", "b", "", " a", "-1", "None", "x y", "é", '"q"'])
dates = st.sampled_from(
    [
        *("2023-11-16 18:15:46.6805900", "2023-11-16 18:15:46", "2024-05-12 00:00:00+00:00", "2024-05-12T00:00:01Z"),
        *("2024-05-12 02:00:00.5+02:00", "2024-02-30 00:00:00", "2023-1-6 1:2:3", "2023-11-16 18:15:60", "5"),
    ]
)
good_times, good_tokens = st.sampled_from(["0", "5", "7.25", "1e3", "19440110.0"]), st.integers(0, 900).map(str)


@pytest.fixture(autouse=True)
def every_size(monkeypatch) -> None:
    """Also a small file is read by columns, in pieces of a few lines."""
    monkeypatch.setattr(columnar, "LEAST_BYTES", 0)
    monkeypatch.setattr(columnar, "CHUNK_BYTES", 70)


def both(path, name: str) -> tuple[RawTrace | None, RawTrace | str]:
    """By columns where it can be, and row by row."""
    table = columnar.read(TraceFile(path), FORMATS[name](None))
    try:
        by_rows = read_raw(path, Reading(name, limit=10**9, include_failed=True))[1]
    except WorkloadError as fault:
        return (None if table is None else table), str(fault)
    if table is None:
        return None, by_rows
    return read_raw(path, Reading(name, include_failed=True))[1], by_rows


def check(path, name: str) -> bool:
    """Whether it was read by columns; then all is the same."""
    by_columns, by_rows = both(path, name)
    if by_columns is None:
        return False
    assert not isinstance(by_rows, str), by_rows
    for field in ("line", "time_s", "prompt_tokens", "output_tokens", "session", "has_ids"):
        np.testing.assert_array_equal(getattr(by_columns, field), getattr(by_rows, field), err_msg=field)
    assert (by_columns.notes, by_columns.paths, by_columns.contradictions) == (by_rows.notes, None, ())
    assert by_columns.time_s.dtype == by_rows.time_s.dtype
    return True


def rows_of(header: str, good: bool) -> st.SearchStrategy[list[str]]:
    time_of, count_of = (good_times, good_tokens) if good else (good_times | times, good_tokens | tokens)
    name_of = st.sampled_from(["a", "b", "", "c"]) if good else sessions

    def burst(values: tuple[str, ...]) -> str:
        at, who, prompt, output, total = values
        total = str(int(prompt) + int(output)) if prompt.isdecimal() and output.isdecimal() and good else total
        return f"{at},{f'{who},12,' if header == V2 else ''}GPT-4,{prompt},{output},{total},x"

    if header in (V1, V2):
        row = st.tuples(time_of, name_of, count_of, count_of, count_of).map(burst)
    elif header == AZURE:
        moments = st.datetimes(datetime(2023, 1, 1), datetime(2025, 1, 1))
        date = moments.map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S.%f}0")
        row = st.tuples(date if good else date | dates, count_of, count_of).map(",".join)
    elif header == SPLITWISE:
        one = st.just("1") if good else st.sampled_from(["1", "2", ""])
        row = st.tuples(time_of, one, count_of, count_of).map(lambda v: f"0,2,0,{','.join(v)}")
    else:
        row = st.tuples(time_of, name_of, count_of, count_of).map(",".join)
    odd = st.sampled_from(["", "1,2", "1,2,3,4,5,6,7,8,9"])
    return st.lists(row if good else row | odd, min_size=1, max_size=12)


@pytest.mark.parametrize("header", list(FORMAT_OF))
@pytest.mark.parametrize("good", [True, False])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), ends=st.sampled_from(["\n", "\r\n"]), tail=st.sampled_from(["", "\n", "\r\n", "\n\n"]))
def test_by_columns_as_by_rows(tmp_path_factory, header: str, good: bool, data, ends: str, tail: str) -> None:
    rows = data.draw(rows_of(header, good))
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes((header.replace("\n", ends) + ends.join(rows) + tail).encode())
    by_columns = check(path, FORMAT_OF[header])
    assert by_columns or not good


@pytest.mark.parametrize("header", [V1, AZURE])
def test_a_mark_at_the_start_and_compression_change_nothing(tmp_path, header: str) -> None:
    rows = {V1: "5,m,3,4,7,x\n9,m,1,1,2,é\n", AZURE: "2023-11-16 18:15:46.6805900,1,2\n2023-11-16 18:15:47,3,4"}[header]
    content = b"\xef\xbb\xbf" + (header + rows).encode()
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content))
    assert check(tmp_path / "a.csv", FORMAT_OF[header]) and check(tmp_path / "a.csv.gz", FORMAT_OF[header])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("5,m,3,4,7,x\n6,m,-3,4,1,x\n", ":3: Request tokens is '-3'"),
        ("5,m,3,4,7,x\n6,m,3,4,7\n", ":3: 5 columns where the header has 6"),
        ("5,m,3,4,7\n6,m,3,4,7,x,y\n", ":2: 5 columns where the header has 6"),
        ("5,m,3,4,7,x\n\n\n6,m,3,four,7,x\n", ":5: Response tokens is 'four'"),
        ("5,m,3,4,7,x\nlater,m,3,4,7,x\n", ":3: Timestamp is 'later'"),
        (b"5,m,3,4,7,x\n6,\xff,3,4,7,x\n", "not text in UTF-8"),
    ],
)
def test_what_is_wrong_is_named_as_ever(text_file, rows: str | bytes, message: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        read_trace(text_file("b.csv", V1.encode() + (rows if isinstance(rows, bytes) else rows.encode())))
    assert message in str(caught.value)


def test_contradictions_are_still_found(text_file) -> None:
    path = text_file("b.csv", V1 + "5,m,3,4,7,x\n6,m,3,4,8,x\n")
    assert [(f.rule, f.line) for f in lint_trace(path)] == [("contradiction", 3)]


def test_quotes_and_ids_are_left_to_the_row_reader(text_file) -> None:
    assert not check(text_file("g.csv", 'time,input,output\n1,"2",3\n'), "generic")
    assert not check(text_file("h.csv", "time,input,output,hash_ids\n1,2,3,7\n"), "generic")


def test_many_rows_take_little_time(tmp_path, monkeypatch) -> None:
    """A twentieth of five million rows within a twentieth of a minute, and no more memory than a few columns."""
    monkeypatch.undo()
    random = np.random.default_rng(1)
    count = 250_000
    at, prompt, output = np.arange(count), random.integers(1, 3000, count), random.integers(0, 900, count)
    lines = (
        f"{t}.0,{t % 9999 if t % 4 == 0 else ''},12,GPT-4,{p},{o},{p + o},Conversation log\n"
        for t, p, o in zip(at.tolist(), prompt.tolist(), output.tolist(), strict=True)
    )
    path = tmp_path / "b.csv"
    path.write_text(V2 + "".join(lines))
    assert columnar.read(TraceFile(path), FORMATS["burstgpt"](None)) is not None
    read = read_trace(path)
    assert len(read) == np.count_nonzero(output) and int(read.prompt_tokens.sum()) == int(prompt[output > 0].sum())
