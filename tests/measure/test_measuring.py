"""A workload sent to a server that knows when it wrote each token; no figure depends on how fast this machine is."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_server import MODEL, Behaviour, Model, Seen
from small_tokenizer import write_tokenizer

from kvsim.errors import ConfigError
from kvsim.measure import MeasuredRun, Sending, Server, measure, server_of
from kvsim.measure.connection import allow_connections
from kvsim.measure.prompt_tokens import ChainTokens
from kvsim.measure.summary import summary_of
from kvsim.measure.texts import Texts
from kvsim.workload.words import word_of
from kvsim.workload.workload import Workload

QUICK = Behaviour(first_s=0.01, token_s=0.001)


def single(count: int = 20, word: str = "in=40-60,out=6") -> Workload:
    return word_of(word).generate(count, 100.0, 3)


def measured(model: Model, workload: Workload, **sending: object) -> MeasuredRun:
    return measure(server_of(model.url), workload, Sending(metrics_interval_s=None, **sending))  # type: ignore[arg-type]


def seen_of(model: Model, workload: Workload) -> dict[int, Seen]:
    """What the server saw of each request: prompts that share nothing are told apart by their first token."""
    tokens = ChainTokens(workload, np.arange(1000, 30000), 0)
    heads = {int(tokens.head(*request.pieces[0])[0]): request.request_id for request in workload}
    return {heads[seen.prompt[0]]: seen for seen in model.measured}


def test_rows_are_what_the_server_did() -> None:
    workload = single(25)
    with Model(Behaviour(first_s=0.03, token_s=0.004)) as model:
        run = measured(model, workload)
    assert (len(run.rows), run.failures, run.model, run.incomplete) == (25, {}, MODEL, False)
    seen, late_s = seen_of(model, workload), []
    for row in run.rows:
        request, own = workload.request(row.request_id), seen[row.request_id]
        assert (row.prompt_tokens, row.output_tokens, row.cached_tokens) == (request.prompt_tokens, 6, 0)
        assert row.scheduled_s == pytest.approx(request.arrival_s - workload.arrival_s[0])
        assert row.lag_s >= 0 and row.pieces == request.pieces
        # What is sent before it arrives, and read after it was written, takes longer here than there.
        assert row.ttft_s is not None and row.e2e_s is not None
        late_s.append(row.ttft_s - (own.written_s[0] - own.arrived_s))
        assert late_s[-1] >= 0 and row.e2e_s >= own.written_s[-1] - own.arrived_s
        assert len(row.token_s) == 6 and (row.first_token_s, row.finish_s) == (row.token_s[0], row.token_s[-1])
        assert row.tpot_s == pytest.approx((row.e2e_s - row.ttft_s) / 5)
    assert np.median(late_s) < 0.5
    assert run.client is not None and run.client.most_in_flight >= model.most_running


def test_prompts_and_hits_are_the_workloads() -> None:
    """The server finds cached what the longest common head says, and so does the workload."""
    workload = replace(word_of("in=60-90,out=5,prefix=40:2").generate(30, 1e6, 3), max_concurrency=1)
    with Model(QUICK) as model:
        run = measured(model, workload)
    heads: set[int] = set()
    for row in run.rows:
        chain = row.pieces[0][0]
        assert row.cached_tokens == (40 if chain in heads else 0)
        heads.add(chain)
    summary = summary_of(run)
    assert summary.by_usage is not None
    assert summary.by_usage.hits == 40 * (30 - len(heads)) and model.most_running == 1


@pytest.mark.parametrize("names_tokens", [True, False])
def test_turns_hold_what_the_server_answered(names_tokens: bool) -> None:
    """A chat's next turn has its history cached, up to the last answered token, if the server says what it answered."""
    workload = word_of("in=30,out=8,turns=4,think=0").users(3, 40, 3)
    with Model(replace(QUICK, names_tokens=names_tokens)) as model:
        run = measured(model, workload)
    assert run.failures == {} and run.waits
    known = {tuple(seen.prompt): seen.answer for seen in model.measured}
    held = sum(
        seen.prompt[len(prompt) : len(prompt) + len(answer)] == answer
        for seen in model.measured
        for prompt, answer in known.items()
        if len(seen.prompt) > len(prompt) and tuple(seen.prompt[: len(prompt)]) == prompt
    )
    assert (held > 20, [note for note in run.notes if "earlier answers" in note] == []) == (names_tokens, names_tokens)
    if not names_tokens:
        assert "names no token ids" in " ".join(run.notes)


def test_failures_by_kind_and_never_sent_again() -> None:
    fails = {1: "cut", 2: "bad", 3: "error", 4: "hang", 5: "empty", 6: "500", 7: "429", 8: "404", 9: "500"}
    workload = replace(single(14), max_concurrency=1)
    with Model(replace(QUICK, fails=fails)) as model:
        run = measured(model, workload, timeout_s=1.0)
    assert run.failures == {
        "http_500": 2, "bad_answer": 2, "cut": 1, "stream_error": 1, "timeout": 1, "http_429": 1, "http_404": 1,
    }  # fmt: skip
    assert len(model.measured) == len(run.rows) == 14
    texts = {row.status: row.error for row in run.rows}
    assert texts["http_429"] == "as told to fail" and texts["stream_error"] == "engine died"
    assert all(row.e2e_s is None and row.tpot_s is None for row in run.rows if not row.is_ok)


def test_a_server_that_goes_away_refuses() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with pytest.raises(ConfigError, match=r"no server answers at http://127\.0\.0\.1:\d+: refused"):
        measure(Server(f"http://127.0.0.1:{port}"), single(2))


def test_a_host_that_is_silent_is_given_up() -> None:
    """A listener whose queue is full takes no more connections, and says nothing."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ConfigError, match=r"no server answers at .*: (connect timeout|timeout)"):
            measure(server, single(1), Sending(connect_timeout_s=0.3, timeout_s=1.0))


@pytest.mark.parametrize(
    ("refused", "kept", "left_out"),
    [
        ((), {"ignore_eos", "min_tokens", "stream_options"}, set()),
        (("return_token_ids",), {"ignore_eos", "min_tokens", "stream_options"}, {"return_token_ids"}),
        (("min_tokens",), {"ignore_eos", "stream_options"}, {"min_tokens"}),
        (("ignore_eos",), {"stream_options"}, {"ignore_eos"}),
        (("include_usage",), set(), {"stream_options"}),
    ],
)
def test_what_a_server_does_not_take_is_left_out(refused: tuple[str, ...], kept: set[str], left_out: set[str]) -> None:
    with Model(replace(QUICK, refuses=frozenset(refused))) as model:
        run = measured(model, single(3))
    assert run.failures == {}
    for seen in model.measured:
        assert kept <= seen.body.keys() and not left_out & seen.body.keys()
    if "ignore_eos" in refused:
        assert any("neither ignore_eos nor min_tokens" in note for note in run.notes)
    if "include_usage" in refused:
        assert run.rows[0].cached_tokens is None and any("counts no tokens" in note for note in run.notes)


def test_an_engine_that_is_known_is_not_asked_for_min_tokens() -> None:
    with Model(replace(QUICK, owner="vllm", version="0.32.0")) as model:
        run = measured(model, single(3))
    assert run.server == {"engine": "vllm", "version": "0.32.0", "max_model_len": 4096}
    assert all(seen.body["ignore_eos"] and "min_tokens" not in seen.body for seen in model.measured)


@pytest.mark.parametrize(("counts", "spread"), [("running", False), ("end", True)])
def test_chunks_of_several_tokens(counts: str, spread: bool) -> None:
    with Model(replace(QUICK, chunk=4, counts=counts, names_tokens=False)) as model:
        run = measured(model, single(4, "in=40,out=10"))
    chunks = {tuple(row.chunk_tokens) for row in run.rows}
    assert chunks == ({(3, 4, 3)} if spread else {(4, 4, 2)})
    assert all(row.output_tokens == len(row.token_s) == 10 for row in run.rows)
    assert any("several tokens" in note for note in run.notes) == spread


def test_short_answers_and_other_counts_are_said() -> None:
    with Model(replace(QUICK, stops=3)) as model:
        run = measured(model, single(5))
    assert "5 of 5 answers ended before the length that was asked for" in run.notes
    assert {row.output_tokens for row in run.rows} == {3}


def test_chats_are_as_long_as_the_workload_has_them(tmp_path: Path) -> None:
    """What the template adds, to one question and with each further one, is found out and taken off."""
    path = write_tokenizer(tmp_path / "tokenizer.json", "byte_level")
    count = Texts(path).ids_of
    behaviour = replace(QUICK, template=(9, 7), count_tokens=lambda text: len(count(text)), names_tokens=False)
    workload = word_of("in=40,out=8,turns=3,think=0").users(2, 12, 3)
    with Model(behaviour) as model:
        run = measured(model, workload, endpoint="chat", tokenizer=path)
    assert run.failures == {}
    roles = {tuple(message["role"] for message in seen.prompt) for seen in model.seen[2:]}
    assert ("user",) in roles and ("user", "assistant", "user") in roles
    first = [row for row in run.rows if row.prompt_tokens == 40]
    assert first and all(row.prompt_planned == 40 for row in first)


def test_a_chat_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="wants --tokenizer"):
        measure(Server("http://127.0.0.1:1"), single(1), Sending(endpoint="chat"))


METRICS = """vllm:kv_cache_usage_perc{{engine="0"}} 0.{running}
vllm:num_requests_running{{engine="0"}} {running}
vllm:prefix_cache_queries_total{{engine="0"}} {queries}
vllm:prefix_cache_hits_total{{engine="0"}} {hits}
"""


def page(model: Model) -> str:
    queries, hits = (
        sum(each) for each in ([len(seen.prompt) for seen in model.seen], [seen.cached for seen in model.seen])
    )
    return METRICS.format(running=model.running, queries=queries, hits=hits)


def test_metrics_before_after_and_between() -> None:
    workload = word_of("in=60-90,out=40,prefix=40:2").generate(30, 60.0, 3)
    with Model(Behaviour(first_s=0.05, token_s=0.005, metrics=page)) as model:
        run = measure(server_of(model.url), workload, Sending(metrics_interval_s=0.05))
    summary = summary_of(run)
    assert summary.by_metrics is not None and summary.by_usage is not None
    assert summary.by_metrics.queries == workload.prompt_tokens.sum() == summary.by_usage.queries
    assert summary.by_metrics.hits == summary.by_usage.hits > 0
    assert len(run.metrics.samples) >= 2 and (summary.most_running or 0) >= 1
    assert summary.preemptions is None


def test_the_key_is_sent_and_nowhere_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSIM_API_KEY", "sk-very-secret")
    with Model(replace(QUICK, key="sk-very-secret", fails={1: "401"})) as model:
        run = measured(model, single(4))
        assert "sk-very-secret" not in repr(run) and run.failures == {"http_401": 1}
        monkeypatch.setenv("KVSIM_API_KEY", "sk-other-secret")
        with pytest.raises(ConfigError, match="wrong") as raised:
            measured(model, single(4))
    assert "secret" not in str(raised.value)


def test_more_connections_than_files_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1,000,000,000 requests in flight .*\(ulimit -n 1000000064\)"):
        allow_connections(10**9)
    allow_connections(10)


def test_measured_beside_another_thread() -> None:
    """Signals are the main thread's alone; ``measure`` does without them elsewhere."""
    found: list[MeasuredRun] = []
    with Model(QUICK) as model:
        thread = threading.Thread(target=lambda: found.append(measured(model, single(3))))
        thread.start()
        thread.join(30)
    assert len(found[0].rows) == 3
