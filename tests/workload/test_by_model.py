"""A trace dealt to models: every request goes to one, by the model it asks or by shares."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import Row, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.errors import WorkloadError
from kvsim.workload import columnar
from kvsim.workload.by_model import Taker, TraceWithModels, dealt_by_share, parted
from kvsim.workload.dealing import belongings
from kvsim.workload.graph import RequestGraph
from kvsim.workload.read import read_trace, read_workload
from kvsim.workload.reading import Reading
from kvsim.workload.replicas import replicated
from kvsim.workload.traffic import TraceSource
from kvsim.workload.workload import Workload

SOURCE = TraceSource("t.csv")
BURSTGPT = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def asking(models: list[int], names: tuple[str, ...], sessions: list[int] | None = None) -> Workload:
    """A request a second, each of the model of that number."""
    rows = [Row(float(i), 4 + i, 2, session_id=-1 if sessions is None else sessions[i]) for i in range(len(models))]
    found = workload(rows)
    return replace(
        found, model=np.array(models, dtype=np.int32), info=replace(found.info, source="t.csv", models=names)
    )


def taker(name: str, *called: str, share: float | None = None) -> Taker:
    return Taker(name, share, called or (name,))


def test_the_model_column_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        BURSTGPT + "2,,,GPT-4,10,3,13,API log\n1,,,ChatGPT,20,5,25,API log\n3,,,,7,0,7,API log\n4,,, ,7,1,8,x\n"
    )
    found = read_workload(path, Reading(), keeps_models=True)
    assert (found.model.tolist(), found.info.models) == ([1, 0, -1], ("GPT-4", "ChatGPT"))
    bare = read_trace(path)
    assert bare.model is None and bare.info.models == ()


@pytest.mark.parametrize("field", ["model", "Model Name", "model_id"])
def test_the_model_of_any_schema_whose_records_are_rows(tmp_path: Path, field: str) -> None:
    path = tmp_path / "t.jsonl"
    rows = [{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1], field: "a"}]
    rows += [{**rows[0], "timestamp": 9, field: 4}, {**rows[0], "timestamp": 10, field: None}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_workload(path, Reading(), keeps_models=True)
    assert (found.info.format, found.model.tolist(), found.info.models) == ("mooncake", [0, 1, -1], ("a", "4"))


def test_column_by_column_as_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    names = ["a", " b", "", "a ", "c"]
    path.write_text(
        "time,model,prompt_tokens,output_tokens\n" + "".join(f"{i},{names[i % 5]},5,2\n" for i in range(99))
    )
    by_rows = read_workload(path, Reading(), keeps_models=True)
    monkeypatch.setattr(columnar, "LEAST_BYTES", 0)
    by_columns = read_workload(path, Reading(), keeps_models=True)
    assert by_columns.model.tolist() == by_rows.model.tolist() == [0, 1, -1, 0, 2] * 19 + [0, 1, -1, 0]
    assert by_columns.info.models == by_rows.info.models == ("a", "b", "c")
    assert read_workload(path, Reading()).model is None


def test_copies_and_cuts_keep_it() -> None:
    copies = replicated(asking([0, 1, 1], ("a", "b")), 3, seed=1)
    assert np.bincount(copies.model).tolist() == [3, 6]
    assert copies.limited(4).model.tolist() == copies.model[:4].tolist()


@settings(max_examples=50)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=40), st.integers(0, 3))
def test_every_request_goes_to_the_model_it_asks_at_its_own_time(models: list[int], rest: int) -> None:
    names = ("w", "x", "y", "z")
    served = asking(models, names)
    whose = [rest if number < 0 else number for number in models]
    takers = [taker(f"m{n}", name, *(["*"] if n == rest else [])) for n, name in enumerate(names)]
    takers = [each for n, each in enumerate(takers) if n in whose]
    if not any("*" in each.trace_models for each in takers):
        return
    parts = parted(SOURCE, served, takers, seed=1)
    there = sorted(set(whose))
    for part, number in zip(parts, there, strict=True):
        rows = [row for row, own in enumerate(whose) if own == number]
        assert part.workload.arrival_s.tolist() == [float(row) for row in rows]
        assert part.workload.prompt_tokens.tolist() == [4 + row for row in rows]
        assert part.workload.model is None
    assert sum(len(part.workload) for part in parts) == len(models)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 10), min_size=2),
    st.integers(0, 5),
)
def test_dealing_by_share(belonging: list[int], shares: dict[str, float], seed: int) -> None:
    whole = np.unique(belonging, return_inverse=True)[1]
    found = dealt_by_share(whole, list(shares), list(shares.values()), seed)
    names = np.array(list(shares))[found].tolist()
    assert len({*zip(belonging, names, strict=True)}) == len(set(belonging)), "what belongs together stays together"
    turned = list(shares)[::-1]
    again = dealt_by_share(whole, turned, [shares[name] for name in turned], seed)
    assert np.array(turned)[again].tolist() == names, "the order of models changes nothing"
    fewer = list(shares)[:-1]
    before = np.array(fewer)[dealt_by_share(whole, fewer, [shares[name] for name in fewer], seed)].tolist()
    last = list(shares)[-1]
    assert [name if name != last else old for name, old in zip(names, before, strict=True)] == before, (
        "one more takes of the others, and moves nothing between them"
    )


def test_shares_are_met() -> None:
    found = dealt_by_share(np.arange(40_000), ["a", "b", "c"], [5.0, 3.0, 2.0], seed=3)
    # Five standard deviations of the largest.
    assert np.bincount(found) / 40_000 == pytest.approx([0.5, 0.3, 0.2], abs=5 * 0.5 / 200)


def test_a_trace_without_models_is_dealt_session_by_session() -> None:
    served = replace(asking([0] * 200, ("a",), [i // 4 for i in range(200)]), model=None)
    parts = parted(SOURCE, served, [taker("a", share=1), taker("b", share=1)], seed=1)
    sessions = [set(part.workload.session_id.tolist()) for part in parts]
    assert not sessions[0] & sessions[1] and len(sessions[0] | sessions[1]) == 50
    assert belongings(served).tolist() == [i // 4 for i in range(200)]


def test_a_limit_is_of_the_whole() -> None:
    source = TraceSource("t.csv", Reading(limit=3))
    parts = parted(source, asking([0, 1, 1], ("a", "b")), [taker("a"), taker("b")], seed=1)
    assert [part.reading.limit for part in parts] == [1, 2]


@pytest.mark.parametrize(
    ("models", "takers", "words"),
    [
        (
            [0, 1, 1, 2, -1],
            [taker("a")],
            "t.csv: 4 of 5 requests are of no item of models: 'b' (2), 'c' (1), no model (1); trace_models of an item "
            "has the trace's names, '*' all others",
        ),
        (
            [0, 0, 1],
            [taker("a"), taker("b"), taker("chat", "gpt", "o1")],
            "t.csv: no request is of 'chat' (trace_models: 'gpt', 'o1'); the trace asks 'a' (2), 'b' (1)",
        ),
        (
            [0, 0],
            [taker("a"), taker("r", "*")],
            "t.csv: no request is of 'r' (trace_models: '*'); the trace asks 'a' (2)",
        ),
    ],
)
def test_requests_that_nobody_takes_and_models_that_nobody_asks(models: list, takers: list, words: str) -> None:
    with pytest.raises(WorkloadError) as error:
        parted(SOURCE, asking(models, ("a", "b", "c")), takers, seed=1)
    assert str(error.value) == words


def test_a_share_is_wanted_where_the_trace_names_no_models() -> None:
    served = replace(asking([0, 0], ("a",)), model=None)
    with pytest.raises(WorkloadError) as error:
        parted(SOURCE, served, [taker("a", share=1), taker("b")], seed=1)
    assert str(error.value) == (
        "t.csv: names no models, so its requests are dealt by shares, and 'b' has none; share of an item of models "
        "gives one"
    )
    with pytest.raises(WorkloadError, match=r"^t.csv: no request of 2 falls to 'b' by its share$"):
        parted(SOURCE, served, [taker("a", share=1), taker("b", share=1e-9)], seed=1)


def test_waits_across_models_are_refused() -> None:
    waits = RequestGraph.turns(np.array([-1, 0, 1]), np.zeros(3))
    served = replace(asking([0, 0, 1], ("a", "b")), graph=waits)
    with pytest.raises(WorkloadError) as error:
        parted(SOURCE, served, [taker("a"), taker("b")], seed=1)
    assert str(error.value) == (
        "t.csv: requests wait for another model's, 1 in all, the first of 'b' for one of 'a'; models are run apart, so "
        "these cannot be served"
    )
    parts = parted(SOURCE, replace(served, model=np.zeros(3, dtype=np.int32)), [taker("a")], seed=1)
    assert parts[0].workload.graph.on.tolist() == [0, 1]


def test_a_part_reads_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time,model,prompt_tokens,output_tokens\n0,a,5,2\n1,b,5,2\n2,b,5,2\n")
    source = TraceWithModels(path)
    part = parted(source, source.read(), [taker("a"), taker("b")], seed=1)[1]
    assert part.read().arrival_s.tolist() == [1.0, 2.0]
    assert part.read().info.notes[-1] == "2 of the trace's 3 requests are b's: those that ask it"
