"""``trace synth``: write synthetic traffic as a trace file."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.usage import FlagError
from kvsim.errors import nearest

if TYPE_CHECKING:
    from kvsim.config import Config
    from kvsim.workload.workload import Workload

KINDS = ("chat", "rag", "agent", "bench")
WORDS = ("sharegpt", "summarise", "code")
"""Workloads in one word that are none of the kinds."""
BY_SUFFIX = {".csv": "generic", ".jsonl": "mooncake"}
REQUESTS, RATE_PER_S = 1000, 10.0


@dataclass(frozen=True, kw_only=True)
class SynthFlags:
    """The flags of ``trace synth``."""

    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="chat, rag, agent, bench, sharegpt, summarise, code, or such as in=2000,out=300,hit=0.6,prefixes=10.",
        ),
    ]
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to; .gz compresses.")]
    fmt: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="Trace schema; default: generic (.csv), mooncake (.jsonl)."),
    ] = None
    requests: Annotated[int, typer.Option(metavar="N", parser=options.count, help="Requests; of agents, sessions.")] = (
        REQUESTS
    )
    rate: Annotated[
        float, typer.Option(metavar="R", parser=options.rate, help="Requests/s (agents: sessions/s), or inf.")
    ] = RATE_PER_S
    seed: Annotated[int, typer.Option(metavar="N", parser=options.whole, help="Seed of every draw.")] = 42
    arrivals: Annotated[
        str, typer.Option(metavar="KIND", help="rag, agent: poisson, constant, gamma, on_off or diurnal.")
    ] = "poisson"
    closed: Annotated[
        bool, typer.Option("--closed", help="agent: a turn waits for its answer; aiperf files can say so.")
    ] = False
    spawn_share: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="agent: this share of turns lets sub-agents work; --requests and --rate then count requests.",
        ),
    ] = None
    subagents: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="agent: sub-agents at a time, with --spawn-share.")
    ] = 3
    input_tokens: Annotated[int, typer.Option(metavar="N", parser=options.count, help="bench: prompt.")] = 1024
    output_tokens: Annotated[int, typer.Option(metavar="N", parser=options.count, help="bench: answer.")] = 128
    range_ratio: Annotated[float, typer.Option(metavar="X", help="bench: lengths spread by this share.")] = 0.0
    prefix_tokens: Annotated[int, typer.Option(metavar="N", parser=options.whole, help="bench: shared head.")] = 0
    burstiness: Annotated[
        float, typer.Option(metavar="X", parser=options.rate, help="bench: shape of gaps; 1: Poisson, inf: constant.")
    ] = 1.0
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set one key of pd_trace or agent_trace.")
    ] = None


@options.taking(SynthFlags)
def synth(flags: SynthFlags) -> int:
    """Write synthetic traffic as a trace: chat, RAG, agents, vllm bench serve's load, or lengths to order."""
    kind, out = flags.kind, flags.out
    if kind not in (*KINDS, *WORDS) and "=" not in kind:
        raise FlagError(f"trace synth: unknown kind {kind!r}; {nearest(kind, (*KINDS, *WORDS))}")
    if flags.spawn_share is not None and kind != "agent":
        raise FlagError(f"trace synth: --spawn-share goes with agent, not with {kind}")
    graphs = {".jsonl": "agentic_mooncake"} if flags.spawn_share is not None else {}
    schema = flags.fmt or {**BY_SUFFIX, **graphs}.get(Path(out.name.removesuffix(".gz")).suffix)
    if schema is None:
        raise FlagError(f"trace synth: no schema for {str(out)!r}; give --format, or a name in .csv or .jsonl")
    from kvsim.cli.outputs import check_file
    from kvsim.workload.writers import write_trace

    check_file("--out", out, {}, "trace")
    workload = _drawn(flags)
    for lost in write_trace(workload, out, schema):
        sys.stderr.write(f"kvsim: note: {lost}\n")
    span_s = workload.span_s if math.isfinite(workload.span_s) else 0.0
    sys.stdout.write(f"{out}: {len(workload):,} requests over {span_s:,.1f} s in schema {schema}\n")
    return 0


def _drawn(flags: SynthFlags) -> Workload:
    from kvsim.config import load_config

    config = load_config(sets=flags.assignments or (), mode="traffic").config
    asked = flags.requests, flags.rate
    if flags.kind == "bench":
        from kvsim.workload.synthetic.bench import bench

        return bench(
            *asked, flags.input_tokens, flags.output_tokens, flags.seed, range_ratio=flags.range_ratio,
            shared_prefix_tokens=flags.prefix_tokens, burstiness=flags.burstiness,
        )  # fmt: skip
    if flags.spawn_share is not None:
        from kvsim.config import derived
        from kvsim.workload.synthetic.agent import Spawning, agent_graph

        spawning, pace_s = Spawning(flags.spawn_share, flags.subagents), derived.answer_s_per_token(config)
        return agent_graph(config.agent_trace, *asked, flags.seed, spawning, pace_s)
    if flags.kind not in KINDS:
        from kvsim.workload.words import word_of

        return word_of(flags.kind).generate(*asked, flags.seed)
    return _configured(flags.kind, config, *asked, flags.seed, flags.arrivals, flags.closed)


def _configured(
    kind: str, config: Config, requests: int, rate: float, seed: int, arrivals: str, closed: bool
) -> Workload:
    """Traffic whose shape the configuration says."""
    from kvsim.config import derived

    pace_s = derived.answer_s_per_token(config)
    if kind == "chat":
        from kvsim.workload.synthetic.chat import chat

        return chat(config.pd_trace, requests, rate, seed, config.pd_separation.max_output_tokens, pace_s)
    if kind == "rag":
        from kvsim.workload.synthetic.rag import rag

        return rag(config.pd_trace, requests, rate, seed, arrivals)
    from kvsim.workload.synthetic.agent import agent

    return agent(config.agent_trace, requests, rate, seed, arrivals, closed=closed, answer_s_per_token=pace_s)
