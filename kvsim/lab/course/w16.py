"""How long does KV take from a prefill to a decode instance, and how much of it does a connector hide?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.api import simulate
from kvsim.lab.charts import curves
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, cell, share
from kvsim.record.labels import number, percent
from kvsim.study.pictures import figure_of, legend_below
from kvsim.units import MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = "vllm serve Qwen/Qwen3-8B --tensor-parallel-size 8 --max-model-len 40000 --no-enable-prefix-caching"
GPUS = 16
INPUTS = (128, 2048, 8192, 32768)
SETS = (
    "load.warm_caches=false",
    "pd_experiments.warmup_share=0",
    "pd_separation.pd_ratio=[1,1]",
    "cluster.network.p2p_rdma_gb_per_s=25",
)
"""One instance a side, a NIC of 200 Gb/s a GPU."""
CONNECTORS = {
    "after the prefill": ("pd_separation.transfer.pipelining=false",),
    "chunk by chunk": ("pd_separation.transfer.pipelining=true",),
    "layer by layer": ("pd_separation.transfer.layerwise=true",),
}
MEASURED_MS = {128: 0.54, 2048: 2.51, 8192: 8.84, 32768: 31.65}
"""Mooncake's connector in vLLM, sent after the prefill."""


@dataclass(frozen=True, kw_only=True)
class TransferRow:
    """One length of prompts, sent in one way."""

    connector: str
    input_tokens: int
    kv_mb: float
    prefill_ms: float
    transfer_ms: float
    """From its first byte's leaving to its last byte's arrival."""
    waited_ms: float
    """The part of TTFT that waits for it: what the prefill does not hide."""
    ttft_ms: float
    waited_share: float
    """A share of TTFT."""


def ask(desk: Desk) -> Answer[TransferRow]:
    """One request at a time: nothing queues."""
    rows = [_row(desk, connector, tokens) for connector in CONNECTORS for tokens in INPUTS]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows))


def _row(desk: Desk, connector: str, tokens: int) -> TransferRow:
    simulation = simulate(
        "pd",
        engine=LINE,
        gpu=H100,
        gpus=GPUS,
        workload=f"in={tokens},out=16",
        concurrency=1,
        requests=desk.requests(3),
        systems=["pd"],
        sets=(*SETS, f"seed={desk.seed}", *CONNECTORS[connector]),
        detail=True,
    )
    sent = simulation.transfers.filter(simulation.transfers["kind"] == "prompt").row(0, named=True)
    request = simulation.requests.row(0, named=True)
    return TransferRow(
        connector=connector,
        input_tokens=tokens,
        kv_mb=sent["bytes"] / 1e6,
        prefill_ms=request["prefill_s"] / MILLI,
        transfer_ms=(sent["end_s"] - sent["start_s"]) / MILLI,
        waited_ms=request["transfer_s"] / MILLI,
        ttft_ms=request["ttft_s"] / MILLI,
        waited_share=request["transfer_s"] / request["ttft_s"],
    )


def _one(rows: Sequence[TransferRow], connector: str, tokens: int) -> TransferRow:
    return next(row for row in rows if (row.connector, row.input_tokens) == (connector, tokens))


def _sentence(rows: Sequence[TransferRow]) -> str:
    longest = INPUTS[-1]
    after, chunks, layers = (_one(rows, connector, longest) for connector in CONNECTORS)
    return (
        f"a prompt of {longest:,} tokens has {number(after.kv_mb)} MB of KV, which take {number(after.transfer_ms)} ms "
        f"on the wire; TTFT waits {number(after.waited_ms)} ms for them where they are sent after the prefill "
        f"({percent(after.waited_share)} of it), {number(chunks.waited_ms)} chunk by chunk and "
        f"{number(layers.waited_ms)} layer by layer: transfers grow with the prompt, and a prefill, longer still, "
        "hides them (Qwen3-8B on eight H100s a side, eight NICs of 200 Gb/s each, one request at a time)"
    )


def _beside(rows: Sequence[TransferRow]) -> tuple[Beside, ...]:
    source = (
        "Mooncake's documentation of its connector in vLLM: Qwen3-8B, eight H800 a side, eight ConnectX-7, 200 GB/s"
    )
    return tuple(
        Beside(
            what=f"transfer of {tokens:,} tokens",
            theirs=f"{MEASURED_MS[tokens]:g} ms",
            ours=f"{number(_one(rows, 'after the prefill', tokens).transfer_ms)} ms",
            same_sign=abs(_one(rows, "after the prefill", tokens).transfer_ms / MEASURED_MS[tokens] - 1) < 0.1,
            source=source,
            why_not_equal="the NICs' efficiency and the time to set a transfer up were fitted to this very table",
        )
        for tokens in INPUTS
    )


def _figure(answer: Answer[TransferRow]) -> Figure:
    figure, (waited, shares) = figure_of("From prefill to decode", "Qwen3-8B on eight H100s a side, 8 x 200 Gb/s", 2)
    curves(
        waited,
        answer.rows,
        "connector",
        "input_tokens",
        "waited_ms",
        ("prompt tokens", "TTFT waits for KV (ms)"),
        log=True,
    )
    labels = ("prompt tokens", "of TTFT (%)")
    curves(shares, answer.rows, "connector", "input_tokens", "waited_share", labels, factor=100, log=True)
    legend_below(figure, waited)
    return figure


LAB = Lab(
    title="Transfers of KV by prompt length and connector",
    ask=ask,
    columns={
        "connector": cell("connector"),
        "tokens": cell("input_tokens"),
        "MB": cell("kv_mb"),
        "prefill ms": cell("prefill_ms"),
        "transfer ms": cell("transfer_ms"),
        "waited ms": cell("waited_ms"),
        "TTFT ms": cell("ttft_ms"),
        "of TTFT": share("waited_share"),
    },
    figure=_figure,
    simulated_only=True,
)
