"""The KV lab on a rented GPU: phases as loads of a plan, carried out here by a server of ours, read back as rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvsim.errors import ConfigError
from kvsim.lab.kv.backends.local import free_port
from kvsim.lab.kv.backends.modal import CloudRun, cloud_run, trials_of
from kvsim.lab.kv.reading import NamedDesign, checked, names, read_design
from kvsim.lab.kv.running import Scope
from kvsim.measure.cloud.body import Place, carry_out
from kvsim.measure.cloud.results import left_in

MAIN = Path(__file__).resolve().parents[2] / "main.py"
MODEL = "meta-llama/Llama-3.2-1B-Instruct"


def run_of(repeats: int = 1, **keys: Any) -> CloudRun:
    tree = {
        "question": "?",
        "server": f"vllm serve {MODEL} --max-model-len 2048",
        "gpu": "l4",
        "family": "shared_prefix",
        "prefix_tokens": 100,
        "suffix_tokens": 20,
        "output_tokens": 2,
        "requests": 3,
        "warm_up": "same",
    } | keys
    asked = NamedDesign(name="own", where="own.yaml", design=checked(tree, "own.yaml"))
    return cloud_run(asked, Scope(first=0, count=repeats), 9.0, None)


@pytest.fixture(scope="module")
def brought_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CloudRun, dict[str, bytes]]]:
    """Two repeats of one phase, warmed by its own prompts."""
    pytest.importorskip("uvicorn")
    folder, port = tmp_path_factory.mktemp("there"), free_port()
    run = run_of(2, compare="nothing", family="no_repeat_variants", prefix_tokens=111, warm_up_requests=5, requests=6)
    words = [*run.plan.command(prefix_caching=True)[2:]]
    words[words.index("--port") + 1] = str(port)
    command = [sys.executable, str(MAIN), "serve", "--gpu", "l4", "--speed", "20", *words]
    place = Place(
        folder=folder, command=lambda _: command, url=f"http://127.0.0.1:{port}", until_s=time.monotonic() + 120
    )
    carry_out(run.plan, place, probe=False)
    yield run, left_in(folder)


def test_rows_come_back_with_the_audits_hits(brought_back: tuple[CloudRun, dict[str, bytes]]) -> None:
    """111 tokens of a prefix are 6 blocks of 16; a suffix that began like the warm-up's would make it 7."""
    found = trials_of(*brought_back)
    assert [row.repeat for row in found.phases] == [0, 1] and len(found.requests) == 12
    for row in found.requests:
        assert row.cached_tokens == row.expected_hit_tokens == 96 and row.status == "ok" and row.ttft_ms
    for phase in found.phases:
        assert (phase.counters, phase.prefix_hits, phase.prefix_queries) == ("direct", 6 * 96, phase.prompt_tokens)
    assert found.notes == () and found.server["machine"] == "1 x L4, 8 cores, 64 GiB"


def test_what_does_not_come_back_is_said(brought_back: tuple[CloudRun, dict[str, bytes]]) -> None:
    run, files = brought_back
    found = trials_of(run, {name: text for name, text in files.items() if not name.startswith("p0-r1-run/")})
    assert [row.repeat for row in found.phases] == [0] and found.notes == ("no rows came back of p0-r1-run",)
    with pytest.raises(ConfigError, match="no rows came back of p0-r0-run, p0-r1-run"):
        trials_of(run, {"run.json": files["run.json"]})


def test_phases_are_loads_in_their_order() -> None:
    plan = run_of(2).plan
    assert [(load.name, load.prefix_caching, len(load.workload)) for load in plan.loads[:4]] == [
        ("p0-r0-cold-warm-up", False, 1),
        ("p0-r0-cold", False, 3),
        ("p0-r0-cache-warm-up", True, 1),
        ("p0-r0-cache", True, 3),
    ]
    assert plan.cachings == (False, True) and "--max-model-len" in plan.command(prefix_caching=True)
    seeds = [load.content_seed for load in plan.loads]
    assert len(set(seeds[:4])) == 1 and seeds[0] != seeds[4], "a repeat has tokens of its own"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"order": "alternate"}, "order: alternate: --backend modal runs all phases without the cache first"),
        ({"compare": "itself"}, "isolation: fresh_engine: --backend modal starts a server with the cache"),
        ({"compare": "entry"}, "compare: entry: --backend modal"),
        ({"vary": {"max_num_seqs": [4]}}, "vary.max_num_seqs: a flag of the server"),
        ({"gpu": "mi300x"}, "gpu = 'mi300x': Modal has none; allowed: l4"),
        ({"times": 30, "vary": {"requests": [1, 2, 3]}}, "360 loads; allowed: 100"),
    ],
)
def test_what_one_plan_cannot_carry(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_of(keys.pop("times", 1), **keys)
    assert said in str(caught.value) and str(caught.value).startswith("own.yaml: ") and "\n" not in str(caught.value)


def test_some_shipped_designs_can_be_rented() -> None:
    taken = []
    for name in names():
        try:
            cloud_run(read_design(name), Scope(first=0, count=1), 9.0, None)
        except ConfigError as refused:
            assert "--backend" in str(refused), refused
        else:
            taken.append(name)
    assert taken == [
        "a_a",
        "concurrency_sweep",
        "isolated_neutral_warmup",
        "phase_order",
        "request_counts",
        "same_worker_unique",
    ]
