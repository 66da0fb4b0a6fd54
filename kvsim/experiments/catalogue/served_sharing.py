"""Whether prompts sent to a server over HTTP hit what the same prompts hit in a run: turns, cache, blocks, policy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.table import Table

from kvsim.experiments.bench import Bench
from kvsim.experiments.mixed_turns import mixed_turns
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.launch import read_launch_line
from kvsim.measure import Sending, measure, server_of
from kvsim.plan.mode import SINGLE
from kvsim.record.labels import counted, percent
from kvsim.serve.child import served
from kvsim.serve.deployed import deploy
from kvsim.sim.run import Case, run
from kvsim.study.answer import StudyAnswer
from kvsim.study.pictures import BLUE, ORANGE, drawn, legend_below, plain_numbers
from kvsim.study.words import table_of
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLES = 0.5
"""Share of the requests that are single prompts."""
REQUESTS = 30
APART_S = 60.0
"""Between requests of the run: each is over before the next comes, as where one client sends one after the other."""
ANSWER_TOKENS = 24
SPEED = 20.0
"""How many times as fast the server's time runs."""
DRAM_GB = 1.2


class Server(NamedTuple):
    """What is served, on one GPU."""

    model: str
    gpu: str
    seed: int


@dataclass(frozen=True)
class Cache:
    """What a server keeps of prompts."""

    blocks: int
    block_tokens: int = 16
    policy: str | None = None
    """Whom host memory below the GPU's evicts; ``None``: there is none."""

    @property
    def words(self) -> list[str]:
        """The server's flags."""
        return ["--num-gpu-blocks-override", str(self.blocks + 1), "--block-size", str(self.block_tokens)]

    @property
    def sets(self) -> list[str]:
        """Assignments beside them."""
        if self.policy is None:
            return []
        below = ["pd_separation.tiers=[dram]", f"hardware.dram.capacity_gb={DRAM_GB}"]
        return [*below, f"policies.eviction={self.policy}"]


CACHES = (
    Cache(640),
    Cache(320),
    Cache(160, 64),
    Cache(320, policy="lru"),
    Cache(320, policy="hybrid"),
)


@dataclass(frozen=True, kw_only=True)
class SharingRow:
    """A cache, and one kind of requests, in prompt tokens."""

    cache_tokens: int
    block_tokens: int
    policy: str
    """Whom host memory evicts; ``none``: there is none."""
    kind: str
    """``single`` or ``multi``."""
    requests: int
    prompt_tokens: int
    served_hit_tokens: int
    """Cached tokens by the usage of each answer."""
    run_hit_tokens: int
    """Hit tokens of the run, loaded from host memory or found."""
    alike_requests: int
    """Requests with the same count."""


@dataclass(frozen=True, kw_only=True)
class SharingAnswer(StudyAnswer):
    """Every cache, with either kind."""

    requests: int
    rows: tuple[SharingRow, ...]

    @property
    def differ(self) -> int:
        """Requests whose counts differ."""
        return sum(row.requests - row.alike_requests for row in self.rows)


def served_sharing(bench: Bench) -> SharingAnswer:
    """One client sends single prompts and conversations one after the other to a server of each cache."""
    drawn_of = mixed_turns(REQUESTS, SINGLES, bench.seeds[0])
    workload, is_multi = _one_by_one(drawn_of[0]), drawn_of[1]
    context = bench.context(bench.plan, lambda _, few, seed: mixed_turns(few, SINGLES, seed)[0])
    config = bench.config
    server = Server(config.model.name, config.hardware.gpu, config.seed)
    rows = [row for cache in CACHES for row in _rows(server, cache, workload, is_multi)]
    return SharingAnswer(
        size=context.size(bench.plan),
        runs=context.single_runs(2 * len(workload) * len(CACHES)),
        requests=len(workload),
        rows=tuple(rows),
    )


def _one_by_one(workload: Workload) -> Workload:
    """The requests, far apart, with short answers."""
    count = len(workload)
    return replace(
        workload,
        arrival_s=np.arange(count, dtype=np.float64) * APART_S,
        output_tokens=np.minimum(workload.output_tokens, ANSWER_TOKENS).astype(np.int32),
    )


def _rows(server: Server, cache: Cache, workload: Workload, is_multi: np.ndarray) -> list[SharingRow]:
    over_http, in_run = _served(server, cache, workload), _run(server, cache, workload)
    found = []
    for kind, rows in (("single", ~is_multi), ("multi", is_multi)):
        found.append(
            SharingRow(
                cache_tokens=cache.blocks * cache.block_tokens,
                block_tokens=cache.block_tokens,
                policy=cache.policy or "none",
                kind=kind,
                requests=int(rows.sum()),
                prompt_tokens=int(workload.prompt_tokens[rows].sum()),
                served_hit_tokens=int(over_http[rows].sum()),
                run_hit_tokens=int(in_run[rows].sum()),
                alike_requests=int((over_http == in_run)[rows].sum()),
            )
        )
    return found


def _served(server: Server, cache: Cache, workload: Workload) -> np.ndarray:
    """Cached tokens of each request, as the server's answers say."""
    words = [server.model, *cache.words, "--enable-prompt-tokens-details"]
    sets = [word for text in (*cache.sets, f"seed={server.seed}") for word in ("--set", text)]
    with served([*words, "--gpu", server.gpu, "--speed", f"{SPEED:g}", *sets]) as url:
        closed = replace(workload, arrival_s=np.zeros(len(workload)), max_concurrency=1)
        found = measure(server_of(url), closed, Sending(metrics_interval_s=None))
    cached = np.zeros(len(workload), dtype=np.int64)
    for row in found.answered:
        cached[row.request_id] = row.cached_tokens or 0
    return cached


def _run(server: Server, cache: Cache, workload: Workload) -> np.ndarray:
    """Hit and loaded tokens of each request in a run."""
    line = read_launch_line(shlex.join(["vllm", "serve", server.model, *cache.words]))
    sets = (*cache.sets, "load.warm_caches=false", f"seed={server.seed}")
    plan = deploy(line, gpu=server.gpu, sets=sets).plan
    table = run(Case("unified", "unified", plan, workload, server.seed)).system.table
    hits = np.zeros(len(workload), dtype=np.int64)
    hits[table["request_id"].astype(np.int64)] = table["hit_tokens"] + table["loaded_tokens"]
    return hits


def sharing_sentence(study: SharingAnswer) -> str:
    """Whether every request hit the same, and what was hit."""
    total = sum(row.requests for row in study.rows)
    hits = " to ".join(percent(share) for share in _extremes(study))
    if not study.differ:
        return (
            f"all {total:,} requests that a server was sent over HTTP hit as many tokens as in the run, in each of "
            f"{len(study.rows) // 2} caches: {hits} of prompt tokens"
        )
    return (
        f"{counted(study.differ, 'request')} of {total:,} that a server was sent over HTTP hit another number of "
        f"tokens than in the run"
    )


def _extremes(study: SharingAnswer) -> tuple[float, float]:
    shares = [row.run_hit_tokens / max(row.prompt_tokens, 1) for row in study.rows]
    return min(shares), max(shares)


def _tables(study: SharingAnswer) -> tuple[Table, ...]:
    columns = ("cache", "block", "host", "turns", "prompts", "served", "run", "alike")
    table = table_of("Prompt tokens hit, over HTTP and in a run of the same requests", columns)
    for row in study.rows:
        table.add_row(
            f"{row.cache_tokens:,}",
            str(row.block_tokens),
            row.policy,
            row.kind,
            f"{row.prompt_tokens:,}",
            f"{row.served_hit_tokens:,}",
            f"{row.run_hit_tokens:,}",
            f"{row.alike_requests} of {row.requests}",
        )
    return (table,)


def _picture(study: SharingAnswer) -> Figure:
    figure, (axis,) = drawn("Prompt tokens hit, over HTTP and in a run", study, requests=study.requests)
    names = [f"{row.cache_tokens // 1000}k of {row.block_tokens}, {row.policy}, {row.kind}" for row in study.rows[::-1]]
    places = np.arange(len(names))
    for shift, colour, label, field in (
        (0.2, BLUE, "over HTTP", "served_hit_tokens"),
        (-0.2, ORANGE, "in a run", "run_hit_tokens"),
    ):
        values = [100 * getattr(row, field) / row.prompt_tokens for row in study.rows[::-1]]
        axis.barh(places + shift, values, height=0.4, color=colour, label=label)
    axis.set_yticks(places, names)
    axis.set_xlabel("prompt tokens hit (%)")
    plain_numbers(axis.xaxis)
    legend_below(figure, axis)
    return figure


STUDY = StandaloneStudy(
    mode=SINGLE,
    ask=served_sharing,
    sentence=sharing_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    sets=("cache.num_workers=1", "model.name=llama-3.1-8b", "engine.tensor_parallel_size=1"),
    own_requests=True,
)
