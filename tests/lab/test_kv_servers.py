"""The KV lab on servers that listen: hits and counters are the audit's; what they cannot do is refused in a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from live_server import MODEL, serving

from kvsim.errors import ConfigError
from kvsim.lab.kv.backends.backend import KvBackend
from kvsim.lab.kv.backends.client import told_facts
from kvsim.lab.kv.backends.local import LocalServers, words_of
from kvsim.lab.kv.backends.url import RunningServer
from kvsim.lab.kv.reading import NamedDesign, checked
from kvsim.lab.kv.running import Scope, run_design
from kvsim.lab.kv.trial import Trials
from kvsim.measure import server_of

MAIN = Path(__file__).resolve().parents[2] / "main.py"
FLAGS = ("--block-size", "32", "--max-model-len", "2048", "--max-num-seqs", "8", "--enable-prompt-tokens-details")
SMALL = {"prefix_tokens": 207, "suffix_tokens": 40, "output_tokens": 4, "requests": 5}
"""207 tokens: a suffix that began with another's first token would make one more whole token, not one more block."""


def design(**keys: Any) -> NamedDesign:
    tree = {
        "question": "?",
        "server": f"vllm serve {MODEL} --max-model-len 2048",
        "gpu": "h100-sxm",
        "family": "shared_prefix",
        "cold": "unique_prompts",
        "isolation": "same_engine",
    }
    return NamedDesign(name="own", where="own.yaml", design=checked(tree | SMALL | keys, "own.yaml"))


def ran(asked: NamedDesign, backend: KvBackend, count: int = 1) -> Trials:
    return run_design(asked, backend, Scope(first=0, count=count), lambda _: None)


def check_counted(found: Trials) -> None:
    """Answers, counters and arithmetic say one thing, request by request."""
    for row in found.requests:
        assert row.status == "ok" and row.cached_tokens == row.expected_hit_tokens, row
        assert row.output_tokens == 4 and row.ttft_ms is not None and 0 < row.ttft_ms <= (row.e2e_ms or 0)
    for phase in found.phases:
        assert phase.counters == "direct" and phase.completed == 5
        assert phase.prefix_hits == phase.cached_tokens == phase.expected_hit_tokens, phase
        assert phase.prefix_queries == phase.prompt_tokens and phase.preemptions == 0


def test_a_server_that_is_up_counts_what_the_audit_expects() -> None:
    """Block size and room are the server's own, not those of the design's line."""
    with serving(MODEL, *FLAGS) as live:
        found = ran(design(warm_up="neutral", order="alternate"), RunningServer(server_of(live.url)), count=2)
    check_counted(found)
    assert [(row.phase, row.prefix_hits) for row in found.phases] == [
        ("cold", 0),
        ("cache", 4 * 192),
        ("cache", 4 * 192),
        ("cold", 0),
    ]
    assert found.server["model"] == MODEL and str(found.server["url"]).startswith("http://127.0.0.1:")
    assert found.phases[0].kv_tokens and found.phases[0].kv_tokens % 32 == 0
    assert len(found.notes) == 1


@pytest.mark.parametrize("family", ["repeated", "variants", "no_repeat_variants", "matched_unique_prefix"])
def test_families_on_a_server(family: str) -> None:
    """With their own prompts before: what a warm-up has sent is known by content, chain by chain."""
    asked = design(compare="nothing", cold="caching_off", family=family, warm_up="same", warm_up_requests=7)
    with serving(MODEL, *FLAGS) as live:
        found = ran(asked, RunningServer(server_of(live.url)))
    check_counted(found)


def test_a_suffix_of_a_warm_up_begins_unlike_those_that_count() -> None:
    """A prefix one token short of whole blocks: one equal token behind it would be found as a block."""
    asked = design(
        compare="nothing", cold="caching_off", family="no_repeat_variants", warm_up="same", prefix_tokens=223
    )
    with serving(MODEL, *FLAGS) as live:
        found = ran(asked, RunningServer(server_of(live.url)))
    assert [row.cached_tokens for row in found.requests] == [192, 0, 0, 0, 192]


def test_prompts_that_a_server_knows_are_told() -> None:
    with serving(MODEL, *FLAGS) as live:
        first = ran(design(), RunningServer(server_of(live.url)))
        again = ran(design(), RunningServer(server_of(live.url)))
        other = ran(design(seed=1), RunningServer(server_of(live.url)))
    assert first.notes == other.notes and len(again.notes) == 2 and "another --seed" in again.notes[1]
    check_counted(other)


def test_a_closed_loop_and_failures_on_a_server() -> None:
    """One is answered for a second, one waits, the third is refused however slow this machine is."""
    asked = design(concurrency=3, suffix_tokens=60, requests=5, output_tokens=200)
    flags = ["1" if flag == "8" else flag for flag in FLAGS]
    with serving(MODEL, *flags, "--max-num-queued-reqs", "1") as live:
        found = ran(asked, RunningServer(server_of(live.url)))
    cache = found.phases[1]
    assert cache.completed < 5 and cache.failure.endswith(f"http_503 {5 - cache.completed}"), cache
    assert cache.expected_hit_tokens is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"isolation": "fresh_engine"}, "isolation: fresh_engine: --backend url cannot restart"),
        ({"isolation": "fresh_engine", "cold": "caching_off"}, "or ask it the design same_worker_unique"),
        ({"vary": {"block_size": [16, 32]}}, "vary.block_size: a flag of the server"),
        ({"compare": "entry", "isolation": "fresh_engine"}, "compare: entry: --backend url has no engine"),
        ({"prefix_tokens": 2005}, "a prompt of 2,045 tokens and an answer of 4 are longer than the 2,048"),
    ],
)
def test_what_a_server_that_is_up_cannot_do(keys: dict[str, Any], said: str) -> None:
    with serving(MODEL, *FLAGS) as live, pytest.raises(ConfigError) as caught:
        ran(design(**keys), RunningServer(server_of(live.url)))
    assert str(caught.value).startswith("own.yaml: ") and said in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_without_a_cache_and_none_at_all() -> None:
    with serving(MODEL, *FLAGS, "--no-enable-prefix-caching") as live:
        assert told_facts(server_of(live.url))[0]["enable_prefix_caching"] == "False"
        with pytest.raises(ConfigError, match="has no prefix cache"):
            ran(design(), RunningServer(server_of(live.url)))
    with pytest.raises(ConfigError, match="no server answers"):
        ran(design(), RunningServer(server_of("http://127.0.0.1:9")))


def test_a_server_is_started_asked_and_ended() -> None:
    backend = LocalServers([sys.executable, str(MAIN), "serve", "--speed", "20"])
    asked = design(server=f"vllm serve {MODEL} --max-model-len 2048 --block-size 32", warm_up="neutral")
    found = ran(asked, backend)
    check_counted(found)
    assert [row.prefix_hits for row in found.phases] == [0, 4 * 192]
    assert told_facts(server_of("http://127.0.0.1:9")) == ({}, None)


def test_a_server_that_does_not_come_up_leaves_rows_that_say_so() -> None:
    backend = LocalServers([sys.executable, "-c", "raise SystemExit('no GPU here')"])
    found = ran(design(isolation="fresh_engine", cold="caching_off"), backend)
    assert [(row.phase, row.started, row.completed) for row in found.phases] == [
        ("cold", False, 0),
        ("cache", False, 0),
    ]
    assert all("no GPU here" in row.failure for row in found.phases) and not found.requests


def test_the_words_that_start_a_server() -> None:
    line = f"vllm serve {MODEL} --max-model-len 2048 --max-num-seqs 4"
    behind = [
        "--max-model-len", "2048", "--max-num-seqs", "4", "--no-enable-prefix-caching",
        "--enable-prompt-tokens-details", "--host", "127.0.0.1", "--port", "5",
    ]  # fmt: skip
    assert LocalServers(["vllm", "serve"]).command(line, 5, caching=False) == ["vllm", "serve", MODEL, *behind]
    entry = ["python", "-m", "vllm.entrypoints.openai.api_server"]
    assert LocalServers(entry).command(line, 5, caching=False) == [*entry, "--model", MODEL, *behind]
    with pytest.raises(ConfigError, match=r"own\.yaml: server: --port is set"):
        words_of(f"{line} --port 7", "own.yaml")
    with pytest.raises(ConfigError, match="has to be 'vllm serve MODEL"):
        words_of(f"python -m vllm.entrypoints.openai.api_server --model {MODEL}", "own.yaml")
    with pytest.raises(ConfigError, match="there is no program 'no-such-vllm'"):
        ran(design(), LocalServers(["no-such-vllm", "serve"]))


def test_entry_needs_an_engine_in_a_process() -> None:
    with pytest.raises(ConfigError, match="compare: entry: --backend local"):
        ran(design(compare="entry", isolation="fresh_engine"), LocalServers([sys.executable]))
