"""A plan and what came of it, as a person reads them."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kvsim.measure.cloud.budget import GRACE_S, STARTS, STARTUP_S
from kvsim.measure.cloud.image import BASE, PYTHON
from kvsim.measure.cloud.plan import VLLM, CloudPlan
from kvsim.measure.cloud.prices import GPUS
from kvsim.spec.prices import AS_OF, SOURCE

COLUMNS = 100
GPUS_BY_REQUEST = {gpu.asked: gpu.kvsim for gpu in GPUS.values()}
"""How kvsim calls a GPU, by how Modal is asked for it."""


def plan_words(plan: CloudPlan) -> str:
    """Mode, machine, image, commands, loads, and what it costs at most."""
    return "".join(f"{line}\n" if line.startswith("server: ") else _wrapped(line) for line in _plan_lines(plan))


def _plan_lines(plan: CloudPlan) -> Iterator[str]:
    runs = plan.shape.runs
    yield f"mode {plan.mode.value}: {plan.shape.what}"
    yield f"machine: {plan.machine.words}"
    yield f"image: {BASE}, Python {PYTHON}, vLLM {VLLM}"
    for caching in plan.cachings:
        if runs == "server":
            yield f"server: {shlex.join(plan.command(prefix_caching=caching))}"
        else:
            yield f"engine: {plan.model} {shlex.join(plan.arguments(prefix_caching=caching))}"
    for load in plan.loads:
        prompts, outputs = int(load.workload.prompt_tokens.sum()), int(load.workload.output_tokens.sum())
        tokens = f"{len(load.workload):,} requests, {prompts:,} tokens in, {outputs:,} out"
        yield f"load {load.name}: {load.words}: {tokens}, {load.limit_s:g} s at most"
    yield from plan.notes
    yield from _cost_lines(plan)


def _cost_lines(plan: CloudPlan) -> Iterator[str]:
    limits, machine = plan.limits, plan.machine
    prepared = f", {limits.prepare_s:,} s without a GPU for getting weights" if limits.prepare_s else ""
    yield (
        f"costs at most {plan.bound_usd:.2f} USD (--max-usd {plan.max_usd:g}): {limits.run_s:,} s of work at "
        f"{machine.usd_per_s:.6f} USD/s, {STARTS * STARTUP_S + GRACE_S:,} s of coming up and ending{prepared}; prices "
        f"of {SOURCE}, {AS_OF}"
    )
    if limits.is_cut:
        yield f"--max-usd ends it after {limits.run_s:,} s; all of it may take {limits.wanted_s:,} s"
    yield "not in that: building the image the first time, and keeping weights in the volume"


def outcome_words(found: Mapping[str, Any], folder: Path) -> str:
    """What came back, a line each."""
    return "".join(_wrapped(line) for line in _outcome_lines(found, folder))


def _outcome_lines(found: Mapping[str, Any], folder: Path) -> Iterator[str]:
    for gpu in found["gpus"]:
        yield f"GPU: {gpu['name']}, driver {gpu['driver']}"
    for warning in found["warnings"]:
        yield f"warning: {warning}"
    for server in found["servers"]:
        if "error" in server:
            yield f"{server['log']}: {server['error']}"
    for load in found["loads"]:
        told = load["status"] if load["status"] != "ok" else _load_words(load)
        yield f"{load['name']}: {told}"
    yield f"took {found['seconds']:.0f} s, {found['usd']:.2f} USD; written to {folder}"
    measured = [load["name"] for load in found["loads"] if load["status"] == "ok"]
    if measured:
        gpu = GPUS_BY_REQUEST.get(found["plan"]["gpu"])
        which = "" if gpu is None else f" --gpu {gpu}"
        yield f"kvsim validate load {folder / measured[0]}{which} compares a load with what kvsim predicts"


def _load_words(load: Mapping[str, Any]) -> str:
    words = f"{load['answered']:,} answered, {load['failed']:,} failed"
    for name in ("ttft", "tpot", "e2e"):
        if load[f"{name}_mean_ms"] is not None:
            words += f", {name.upper()} {load[f'{name}_mean_ms']:,.1f} ms"
    return words + (" (the client was saturated)" if load["saturated"] else "")


def _wrapped(text: str) -> str:
    return f"{textwrap.fill(text, COLUMNS, subsequent_indent='  ', break_on_hyphens=False, break_long_words=False)}\n"
