"""The backend of a rented GPU: all phases of a design become loads of one plan, which is decided before it is paid for.

The plan starts one server with a prefix cache and one without, so that only designs are taken that these two serve
exactly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvsim.errors import ConfigError
from kvsim.lab.kv.audit import expected_of, facts_at
from kvsim.lab.kv.backends.client import seen_of_rows
from kvsim.lab.kv.backends.local import words_of
from kvsim.lab.kv.backends.url import refuse_fixed
from kvsim.lab.kv.design import PHASES
from kvsim.lab.kv.phases import Phase, Repeat
from kvsim.lab.kv.points import points_of
from kvsim.lab.kv.reading import NamedDesign, as_json
from kvsim.lab.kv.rows import Rows, ServerSide
from kvsim.lab.kv.running import Scope
from kvsim.lab.kv.trial import Trials
from kvsim.measure.cloud.budget import limits_for
from kvsim.measure.cloud.modes import Mode
from kvsim.measure.cloud.plan import (
    LOAD_S,
    MOST_LOADS,
    PROBE_S,
    SERVER_START_S,
    STOP_S,
    CloudPlan,
    Load,
    checked,
    server_args_of,
)
from kvsim.measure.cloud.prices import GPUS, CloudGpu, Machine
from kvsim.spec import find_gpu

ROWS = "rows.jsonl"
"""What a load leaves in a folder of its name."""


@dataclass(frozen=True)
class Part:
    """A phase, and the load that it is."""

    load: str
    repeat: Repeat
    phase: Phase


@dataclass(frozen=True)
class CloudRun:
    """A design as a plan, and which of its loads count."""

    asked: NamedDesign
    plan: CloudPlan
    parts: tuple[Part, ...]


def cloud_run(asked: NamedDesign, scope: Scope, max_usd: float, hf_secret: str | None) -> CloudRun:
    """The plan of a design. Raises ``ConfigError``, one line, for what it cannot carry exactly."""
    _refuse(asked)
    gpu = _gpu(asked)
    model, *flags = words_of(asked.design.server, asked.where)
    loads: list[Load] = []
    parts: list[Part] = []
    for repeat in scope.repeats:
        for point in points_of(asked):
            facts_at(asked, point)
            _add(point.repeat(repeat), loads, parts)
    if len(loads) > MOST_LOADS:
        raise ConfigError(f"{asked.where}: {len(loads)} loads; allowed: {MOST_LOADS}; --repeats N runs fewer")
    machine = Machine(cores=8, memory_gib=64, gpu=gpu, gpus=1)
    starts = len({load.prefix_caching for load in loads})
    wanted_s = PROBE_S + starts * (SERVER_START_S + STOP_S) + LOAD_S * len(loads)
    args = server_args_of(" ".join(flags))
    plan = CloudPlan(
        mode=Mode.CONCURRENT,
        machine=machine,
        model=model,
        revision=None,
        server_args=args if gpu.has_bf16 else (*args, "--dtype", "half"),
        loads=tuple(loads),
        limits=limits_for(machine, wanted_s, max_usd, prepares=True),
        max_usd=max_usd,
        hf_secret=hf_secret,
        seed=asked.design.seed,
    )
    return CloudRun(asked, checked(plan), tuple(parts))


def _refuse(asked: NamedDesign) -> None:
    refuse_fixed(asked, "modal")
    design = asked.design
    if design.isolation == "same_engine" or len(PHASES[design.compare]) == 1:
        return
    if design.compare != "cache" or design.cold != "caching_off":
        raise ConfigError(
            f"{asked.where}: isolation: fresh_engine: --backend modal starts a server with the cache and one without, "
            "which is for compare: cache with cold: caching_off; --backend simulated or local can"
        )
    if design.order != "cold_first":
        raise ConfigError(
            f"{asked.where}: order: {design.order}: --backend modal runs all phases without the cache first; "
            "allowed: cold_first; --backend simulated or local can"
        )


def _gpu(asked: NamedDesign) -> CloudGpu:
    known = find_gpu(asked.design.gpu).name
    found = next((gpu for gpu in GPUS.values() if gpu.kvsim == known), None)
    if found is None:
        rented = ", ".join(gpu.kvsim for gpu in GPUS.values() if gpu.kvsim is not None)
        raise ConfigError(f"{asked.where}: gpu = '{asked.design.gpu}': Modal has none; allowed: {rented}")
    return found


def _add(repeat: Repeat, loads: list[Load], parts: list[Part]) -> None:
    content = repeat.content
    for phase in repeat.phases:
        name = f"p{repeat.point}-r{repeat.repeat}-{phase.name}"
        parts.append(Part(name, repeat, phase))
        for workload in phase.sent:
            warms = workload is not phase.counted
            loads.append(
                Load(
                    name=f"{name}-warm-up" if warms else name,
                    words=f"{'warm-up' if warms else phase.family} of repeat {repeat.repeat}",
                    workload=workload,
                    limit_s=LOAD_S,
                    prefix_caching=phase.caching,
                    content=content,
                    content_seed=repeat.content_seed,
                )
            )


def trials_of(run: CloudRun, files: Mapping[str, bytes]) -> Trials:
    """What came back, as rows; a phase that left none is said in the notes."""
    said: dict[str, Any] = json.loads(files["run.json"])
    rows, missing = Rows(), []
    for part in run.parts:
        left = files.get(f"{part.load}/{ROWS}")
        if left is None:
            missing.append(part.load)
            continue
        about, seen = seen_of_rows(part.load, left, part.phase)
        hits = expected_of(part.repeat, facts_at(run.asked, points_of(run.asked)[part.repeat.point]))
        rows.add(part.repeat, part.phase, seen, hits[part.phase.name], _counted(about))
    errors = [f"{server['log']}: {server['error']}" for server in said["servers"] if "error" in server]
    lost = [f"no rows came back of {', '.join(missing)}"] if missing else []
    if not rows.phases:
        raise ConfigError(f"{run.asked.where}: {(errors or lost)[0]}")
    commands = [list(run.plan.command(prefix_caching=each)) for each in run.plan.cachings]
    return Trials(
        name=run.asked.name,
        design=as_json(run.asked.design),
        backend="modal",
        phases=tuple(rows.phases),
        requests=tuple(rows.requests),
        server={"commands": commands, "machine": run.plan.machine.words, "gpus": said["gpus"]},
        notes=(*said["warnings"], *errors, *lost),
    )


def _counted(about: Mapping[str, Any]) -> ServerSide:
    before, after = (about["metrics"][name] or {} for name in ("before", "after"))

    def went(name: str) -> float | None:
        ends = before.get(name), after.get(name)
        return None if ends[0] is None or ends[1] is None else float(ends[1] - ends[0])

    queries, hits, preemptions = went("prefix_queries"), went("prefix_hits"), went("preemptions")
    return ServerSide(
        counters="none" if queries is None or hits is None else "direct",
        prefix_queries=queries,
        prefix_hits=hits,
        preemptions=None if preemptions is None else round(preemptions),
    )


def rent(run: CloudRun, tell: Callable[[str], None]) -> Trials:
    """Carry the plan out at Modal. Raises ``ConfigError``, one line, without its package or credentials."""
    from kvsim.measure.modal_app import run_on_modal

    return trials_of(run, run_on_modal(run.plan, tell))
