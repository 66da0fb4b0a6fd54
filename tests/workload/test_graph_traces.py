"""Traces of request graphs: who waits for whom, exactly; what cannot be is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.errors import WorkloadError
from kvsim.workload.graph import RequestGraph, Waits
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.lint import lint_trace
from kvsim.workload.read import read_trace
from kvsim.workload.workload import Workload
from kvsim.workload.writers import write_trace

HEADER = {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 64, "hash_id_scope": "local", "source": {}}


def told(workload: Workload) -> set[tuple[int, int, float, bool]]:
    """Waits by the prompts of both, which each test makes different."""
    prompts = workload.prompt_tokens.tolist()
    waits = workload.graph.waits()
    columns = (column.tolist() for column in waits)
    return {
        (prompts[row], prompts[on], round(delay_s, 9), sent) for row, on, delay_s, sent in zip(*columns, strict=True)
    }


def v1(name: str, tokens: int, **more: object) -> dict[str, object]:
    return {"request_id": name, "input_length": tokens, "output_length": 10, "hash_ids": [], **more}


def v2(name: str, tokens: int, *dependencies: dict[str, object], play: str = "p", **more: object) -> dict[str, object]:
    row = {"request_id": name, "play_id": play, "session_id": play, "model": "m", "not_before_ms": 0.0}
    return {**row, "input_length": tokens, "output_length": 10, "dependencies": list(dependencies), **more}


def on(name: str, delay_ms: float = 0.0, trigger: str = "completion") -> dict[str, object]:
    return {"request_id": name, "delay_ms": delay_ms, "trigger": trigger, "relation": "join"}


def test_agentic_rows_wait_for_all_and_for_their_tool(json_lines) -> None:
    path = json_lines(
        [
            v1("a", 100, timestamp=1000),
            v1("c", 300, wait_for=["a", "b"], delay=5, tool_wait_ms=20.5, branches=["x"], prefix_reset=True),
            v1("b", 200, wait_for=["a"], tool_wait_ms=7),
            v1("d", 400, timestamp=1250.5, session_id="s"),
        ]
    )
    read = read_trace(path)
    assert read.info.format == "agentic_mooncake"
    assert told(read) == {(200, 100, 0.007, False), (300, 100, 0.0255, False), (300, 200, 0.0255, False)}
    # Answers last 20 ms a token: a ends at 0.2, b at 0.407, whatever the order of the file.
    assert read.prompt_tokens.tolist() == [100, 200, 400, 300]
    assert read.arrival_s.tolist() == pytest.approx([0.0, 0.207, 0.2505, 0.4325])
    assert "2 rows wait for others, 1 of them for several" in read.info.notes[0]


def test_version_2_has_a_delay_and_a_trigger_for_each_wait(json_lines) -> None:
    path = json_lines(
        [
            HEADER,
            v2("a", 100, not_before_ms=500.0),
            v2("b", 200, on("a", 30.0, "dispatch")),
            v2("c", 300, on("a", 10.0), on("b", 20.0), not_before_ms=2500.0),
        ]
    )
    read = read_trace(path)
    assert told(read) == {(200, 100, 0.03, True), (300, 100, 0.01, False), (300, 200, 0.02, False)}
    assert read.graph.earliest_s.tolist() == [0.0, 0.0, 2.0]
    assert read.arrival_s.tolist() == pytest.approx([0.0, 0.03, 2.0])
    assert read.info.hash_block_tokens is None


def test_hash_ids_are_those_of_a_play(json_lines) -> None:
    ids = {"hash_ids": [1, 2]}
    path = json_lines([HEADER, v2("a", 128, **ids), v2("b", 128, **ids), v2("c", 128, play="q", **ids)])
    read = read_trace(path)
    assert read.info.hash_block_tokens == 64
    assert read.info.infinite_cache_hit_rate_tokens == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([v1("a", 1), v1("b", 1, wait_for=["z"])], ":2: wait_for is 'z', which no row is; known: a, b"),
        ([v1("a", 1, wait_for=["a"])], ":1: wait_for is 'a', the request itself; allowed: another one"),
        (
            [v1("x", 1), v1("a", 1, wait_for=["c"]), v1("b", 1, wait_for=["a"]), v1("c", 1, wait_for=["b", "x"])],
            ":2: request 'a' waits for itself, through 'c', 'b'",
        ),
        ([v1("a", 1), v1("a", 1, wait_for=[])], ":2: a second request with the id 'a'; allowed: each id once"),
        ([v1("a", 1, wait_for=7.5)], ":1: wait_for is 7.5; allowed: a list of request ids"),
        ([v1("a", 1), v1("b", 1, wait_for=["a"], delay=-1)], ":2: delay is -1; allowed: a finite number >= 0"),
        ([v1("", 1, wait_for=[])], ":1: request_id is ''; allowed: the id of the request"),
        ([{**HEADER, "version": 3}], ":1: version is 3; allowed: 2"),
        ([{**HEADER, "schema": "x"}], ":1: schema is 'x'; allowed: dynamo.agentic_mooncake"),
        ([{**HEADER, "block_size": 0}], ":1: block_size is 0; allowed: 1 token or more"),
        (
            [HEADER, v2("a", 1), v2("b", 1, on("a", trigger="start"))],
            ":3: dependencies.trigger is 'start'; allowed: comp",
        ),
        ([HEADER, v2("a", 1), v2("b", 1, on("a", -2.0))], ":3: dependencies.delay_ms is -2.0; allowed: a finite"),
        (
            [HEADER, v2("a", 1), {**v2("b", 1), "dependencies": "a"}],
            ":3: dependencies is 'a'; allowed: a list of objects",
        ),
        ([HEADER, v2("a", 1), v2("b", 1, on("A"))], ":3: dependencies is 'A', which no row is; "),
    ],
)
def test_wrong_waits_are_one_line(json_lines, rows, message: str) -> None:
    path = json_lines(rows)
    with pytest.raises(WorkloadError) as wrong:
        read_trace(path, "agentic_mooncake")
    assert f"{path}{message}" in str(wrong.value) and "\n" not in str(wrong.value)


def test_lint_collects_wrong_waits_and_goes_on(json_lines) -> None:
    circle = [v1("a", 1, wait_for=["b"]), v1("b", 2, wait_for=["a"]), v1("c", 3, wait_for=["zz", "c"])]
    found = [(finding.line, finding.message) for finding in lint_trace(json_lines(circle)) if finding.rule == "row"]
    assert [line for line, _ in found] == [3, 3, 1]
    assert "waits for itself, through 'b'" in found[2][1]


def test_beyond_the_limit_nobody_is_waited_for(json_lines) -> None:
    rows = [v1("a", 100, timestamp=0), v1("b", 200, wait_for=["a", "z"], timestamp=0), v1("z", 300, timestamp=50)]
    read = read_trace(json_lines(rows), limit=2)
    assert told(read) == {(200, 100, 0.0, False)}
    assert "wait_for is 'z', which is not among the rows that are read" in read.info.lint[0].message


def test_who_waits_for_a_failed_row_waits_for_what_it_waited_for(json_lines) -> None:
    failed = {"output_length": 0}
    path = json_lines(
        [
            v1("a", 100, timestamp=0),
            v1("b", 200, wait_for=["a"], delay=5, **failed),
            v1("c", 300, wait_for=["b"], delay=7),
            v1("r", 400, timestamp=9000, **failed),
            v1("d", 500, wait_for=["a", "r"], delay=11),
        ]
    )
    read = read_trace(path)
    assert told(read) == {(300, 100, 0.012, False), (500, 100, 0.011, False)}
    # r would have been sent at 9 s, and ended at once.
    assert read.graph.earliest_s.tolist() == [0.0, 0.0, pytest.approx(9.011)]


@st.composite
def graphs(draw) -> Workload:
    count = draw(st.integers(1, 10))
    outputs = np.array([draw(st.integers(1, 9)) for _ in range(count)], dtype=np.int32)
    edges: list[tuple[int, int, float, bool]] = []
    sent_s, earliest_s = np.zeros(count), np.zeros(count)
    for row in range(count):
        ons = draw(st.lists(st.integers(0, row - 1), max_size=3, unique=True)) if row else []
        waits = [(row, one, draw(st.floats(0, 50)), draw(st.booleans())) for one in ons]
        over = [sent_s[one] + delay_s + (0.0 if sent else 0.02 * outputs[one]) for _, one, delay_s, sent in waits]
        before = sent_s[row - 1] if row else 0.0
        if over and max(over) < before + 0.001:
            earliest_s[row] = before + 0.001
        sent_s[row] = max([*over, earliest_s[row]]) if over else before + draw(st.floats(0.001, 9))
        edges += waits
    tokens = np.array([draw(st.integers(1, 400)) for _ in range(count)], dtype=np.int32)
    shared = np.minimum(tokens, 130)
    pieces = np.stack((shared, tokens - shared), axis=1).ravel()
    chains = np.stack((np.zeros(count, dtype=np.int64), -1 - np.arange(count)), axis=1).ravel()
    columns = [np.array(column) for column in zip(*edges, strict=True)] if edges else [np.zeros(0, dtype=np.int64)] * 4
    waits = Waits(columns[0], columns[1], columns[2].astype(float), columns[3].astype(bool))
    return Workload(
        arrival_s=sent_s,
        prompt_tokens=tokens,
        output_tokens=outputs,
        session_id=np.array([draw(st.integers(-1, 2)) for _ in range(count)]),
        output_chain=-1 - np.arange(count),
        piece_offsets=np.concatenate(([0], np.cumsum(pieces > 0)))[::2],
        piece_chain=chains[pieces > 0],
        piece_tokens=pieces[pieces > 0].astype(np.int32),
        info=WorkloadInfo("test", "synthetic"),
        graph=RequestGraph.of(waits, count, earliest_s),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workload=graphs())
def test_a_graph_is_read_back_as_it_was(tmp_path, workload: Workload) -> None:
    written = workload
    path = tmp_path / "graph.jsonl.gz"
    assert write_trace(written, path, "agentic_mooncake") == ()
    read = read_trace(path, strict=True)
    start_s = float(written.arrival_s[0])
    assert read.prompt_tokens.tolist() == written.prompt_tokens.tolist()
    assert read.output_tokens.tolist() == written.output_tokens.tolist()
    np.testing.assert_allclose(read.arrival_s, written.arrival_s - start_s, atol=1e-8)
    if written.graph is None or not len(written.graph.on):
        assert read.graph is None
        return
    assert read.graph.offsets.tolist() == written.graph.offsets.tolist()
    assert read.graph.on.tolist() == written.graph.on.tolist()
    assert read.graph.from_sent.tolist() == written.graph.from_sent.tolist()
    np.testing.assert_allclose(read.graph.delay_s, written.graph.delay_s, atol=1e-9)
    waiting = ~written.graph.is_root & (written.graph.earliest_s > 0)
    np.testing.assert_allclose(
        read.graph.earliest_s[waiting], np.maximum(written.graph.earliest_s[waiting] - start_s, 0.0), atol=1e-8
    )


def call(time_s: float, tokens: int, api_s: float | None = None, **more: object) -> dict[str, object]:
    given = {} if api_s is None else {"api_time": api_s}
    return {"t": time_s, "type": "s", "model": "m", "in": tokens, "out": 10, "hash_ids": [], **given, **more}


def weka(*requests: dict[str, object], **more: object) -> dict[str, object]:
    head = {"id": "c", "models": ["m"], "block_size": 64, "hash_id_scope": "local", "tool_tokens": 5}
    return {**head, **more, "requests": list(requests), "totals": {"parse": {"n": [1]}}}


def subagent(time_s: float, *requests: dict[str, object], status: str = "completed") -> dict[str, object]:
    given = {"t": time_s, "type": "subagent", "agent_id": "x", "subagent_type": "Explore", "status": status}
    return {**given, "requests": list(requests), "models": ["m"]}


def test_weka_agents_wait_for_their_answers_and_sub_agents(text_file) -> None:
    document = weka(
        call(0.0, 100, 2.0),
        call(3.0, 200, 4.0),
        subagent(7.5, call(7.5, 300, 1.0), call(9.0, 400, 2.0)),
        subagent(7.5, call(0.25, 500, 3.0), status="completed"),
        subagent(8.0, call(8.0, 600, 50.0), status="async_launched"),
        call(12.0, 700, 1.0),
        call(14.0, 800, 1.0),
    )
    read = read_trace(text_file("w.json", json.dumps(document, indent=1)))
    assert read.info.format == "weka"
    assert told(read) == {
        (200, 100, 1.0, False),
        (300, 200, 0.5, False),
        (400, 300, 0.5, False),
        (500, 200, 0.75, False),
        (600, 200, 1.0, False),
        # The next request follows all that had ended: its own answer and both sub-agents, not the one left alone.
        (700, 200, 1.0, False),
        (700, 400, 1.0, False),
        (700, 500, 1.0, False),
        (800, 700, 1.0, False),
    }
    assert len(set(read.session_id.tolist())) == 2


def test_weka_requests_that_overlap_are_side_by_side(text_file) -> None:
    document = weka(call(0.0, 100, 10.0), call(2.0, 200, 3.0), call(11.0, 300, 1.0))
    read = read_trace(text_file("w.json", json.dumps(document)))
    assert told(read) == {(200, 100, 2.0, True), (300, 100, 1.0, False), (300, 200, 1.0, False)}


def test_weka_without_times_of_answers_goes_by_the_client_s_pause(text_file) -> None:
    document = weka(call(0.0, 100), call(9.0, 200, think_time=4.0))
    assert told(read_trace(text_file("w.json", json.dumps(document)))) <= {
        (200, 100, 9.0, False),
        (200, 100, 4.0, False),
    }


def test_weka_conversations_one_a_line_share_nothing(text_file) -> None:
    one = weka(call(0.0, 128, 1.0, hash_ids=[1, 2]), call(2.0, 192, 1.0, hash_ids=[1, 2, 3]))
    path = text_file("w.jsonl", json.dumps(one) + "\n" + json.dumps({**one, "id": "d"}) + "\n")
    read = read_trace(path)
    assert len(read) == 4 and len(set(read.session_id.tolist())) == 2
    assert read.info.infinite_cache_hit_rate_tokens == pytest.approx(256 / 640)
    assert "2 conversations that all start at once" in read.info.notes


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (weka(call(0.0, 1), {**call(1.0, 1), "type": "q"}), "type is 'q'; allowed: n, s, subagent"),
        (weka(call(0.0, 1), subagent(1.0, {"type": "subagent"})), "allowed: requests of type n, s"),
        (weka(call(0.0, 1), hash_id_scope="global"), "hash_id_scope is 'global'; allowed: local"),
        (weka(call(0.0, 1), block_size=0), "block_size is 0"),
        (weka(call(0.0, 1), call(1.0, -4)), "in is -4"),
        (weka({**call(0.0, 1), "api_time": "x"}), "api_time is 'x'; allowed: a finite number"),
    ],
)
def test_wrong_weka_documents_are_one_line(text_file, document, message: str) -> None:
    path = text_file("w.json", json.dumps(document))
    with pytest.raises(WorkloadError) as wrong:
        read_trace(path)
    assert message in str(wrong.value) and str(wrong.value).startswith(f"{path}:1: ")


def test_a_cut_weka_document_is_one_line(text_file) -> None:
    text = json.dumps(weka(call(0.0, 100, 1.0), call(2.0, 200, 1.0)))
    for length in (40, 120, 200, 280, len(text) - 30, len(text) - 1):
        with pytest.raises(WorkloadError) as wrong:
            read_trace(text_file("w.json", text[:length]))
        assert "\n" not in str(wrong.value)
