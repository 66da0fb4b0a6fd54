"""What kvsim predicts for a load as its client describes it: rate, prompts, lengths, requests in flight, patience."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvsim.config import LoadedConfig, load_config
from kvsim.config.load import set_values
from kvsim.errors import CapacityError
from kvsim.fields import Fields
from kvsim.plan.instance import load_instance
from kvsim.plan.plan import Plan, unified_plan
from kvsim.plan.refused import unlike_servers
from kvsim.plan.unmodelled import undivided
from kvsim.plan.vllm import step_time_of_version
from kvsim.plan.vllm_defaults import checked_version, is_async
from kvsim.record.result import Distribution, Table
from kvsim.record.summary import e2e_s, mean_tpot_s, ttft_s
from kvsim.sim.fleet.clients import Patience
from kvsim.sim.run import Case, RunResult, run
from kvsim.spec import find_gpu
from kvsim.steptime.curves.lockstep import steps_together
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.validate.accuracy import Floats
from kvsim.validate.caveats import nearest_caveats, profile_caveats
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import Traffic
from kvsim.validate.front_end import front_end_s


@dataclass(frozen=True)
class Asked:
    """What was said of a server beside its model, step times and GPUs."""

    vllm_version: str = ""
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Server:
    """One instance as it was served, and what speaks against its step times."""

    plan: Plan
    loaded: LoadedConfig
    caveats: tuple[str, ...]
    asked: Asked = Asked()

    @property
    def profile(self) -> str | None:
        """The profile that its step times are of, given or the nearest; ``None``: a roofline's."""
        nearest = self.plan.colocated.nearest
        return self.loaded.provenance.name if nearest is None else nearest.name

    @property
    def step_times(self) -> str:
        """How they are known, in words."""
        nearest = self.plan.colocated.nearest
        if nearest is not None and nearest.level == "scaled":
            return f"step times scaled from profile {self.profile}"
        return "step times of data sheets" if self.profile is None else f"profile {self.profile}"


@dataclass(frozen=True)
class LoadPrediction:
    """The figures of a ``ClientResult``, predicted, of the requests that were answered; ``None`` where none was."""

    completed: int
    gave_up: int
    """Requests whose client hung up."""
    unfit: int
    """Requests that could never be served: longer than the model or the KV cache."""
    ttft_s: dict[str, float]
    e2e_s: dict[str, float]
    tpot_mean_s: float | None
    itl_s: dict[str, float]
    requests_per_s: float
    output_tokens_per_s: float


def load_server(
    profile: Path | None, model: str, degree: int, vllm_version: str, sets: list[str], gpu: str | None = None
) -> Server:
    """One instance; vLLM's defaults where ``sets`` does not say otherwise. Older engines get their host time.

    ``profile``: its step times and its GPU; ``None``: those of ``gpu``, by default the configured one, as measured or
    of the nearest that was. ``vllm_version`` may be empty: a present one. Raises ``ConfigError`` on what cannot be
    used.
    """
    known = None
    if profile is None:
        known = find_gpu(gpu or set_values(sets).get("hardware.gpu") or load_config().config.hardware.gpu)
    loaded = load_instance(
        model,
        Fields("", {"tensor_parallel_size": degree}),
        vllm_version=checked_version(vllm_version),
        profile=profile,
        keys={"load.warm_caches": False},
        sets=sets,
        gpu=known,
    )
    plan = unified_plan(loaded.config, 1)
    nearest = plan.colocated.nearest
    caveats = profile_caveats(loaded) if nearest is None else nearest_caveats(nearest, loaded.config)
    caveats += [*unlike_servers(loaded.config, plan.spec.model), *undivided([plan.spec])]
    if not is_async(vllm_version) and not _has_host_time(plan):
        what = "stages have" if plan.spec.pipeline_layers else "a profile of tables has"
        caveats.append(f"vLLM {vllm_version} schedules between steps; {what} no host time for that")
    plan = at_version(plan, vllm_version)
    return Server(plan, loaded, tuple(caveats), Asked(vllm_version, tuple(sets)))


def at_version(plan: Plan, vllm_version: str) -> Plan:
    """``plan`` with the host time of engines that schedule between steps, where that version does; tables have none,
    nor have stages."""
    if is_async(vllm_version) or not _has_host_time(plan):
        return plan
    sizes, together = plan.config.engine.cudagraph_capture_sizes, steps_together(plan.step_time)
    slower = step_time_of_version(plan.step_time.coefficients, vllm_version, sizes)
    if together is None:
        return plan.with_instances(step_time=slower)
    own = step_time_of_version(together.own.coefficients, vllm_version, sizes)
    return plan.with_instances(step_time=together.with_own(own, slower.coefficients))


def _has_host_time(plan: Plan) -> bool:
    """Whether what engines that schedule between steps take longer can be added."""
    together = steps_together(plan.step_time)
    is_tables = isinstance(plan.step_time if together is None else together.own, TableStepTime)
    return not (is_tables or plan.spec.pipeline_layers)


def predict_load(load: ClientResult, plan: Plan) -> LoadPrediction:
    """Raises ``CapacityError`` where no request fits."""
    return predict_traffic(load.traffic, plan, load.name)


def predict_traffic(traffic: Traffic, plan: Plan, source: str) -> LoadPrediction:
    """Statistics of the requests that are answered before their client gives them up, from sending on.

    Raises ``CapacityError``.
    """
    found = served(traffic, plan, source)
    return _prediction(
        answers(traffic, plan, found), found.system.itl, found.gave_up, found.system.failed - found.gave_up
    )


def served(traffic: Traffic, plan: Plan, source: str) -> RunResult:
    """The traffic, and what came before it, simulated. Raises ``CapacityError`` where no request fits."""
    workload, seed = traffic.workload(source, plan.config.seed), plan.config.seed
    patience = None
    if traffic.timeout_s is not None:
        patience = Patience(max(traffic.timeout_s - outside_s(plan), 0.0), traffic.preamble)
    found = run(Case("unified", "unified", plan, workload, seed, patience=patience))
    if found.system.failed - found.gave_up >= traffic.requests:
        raise CapacityError(f"{source}: a request of {traffic.prompt_tokens:.0f} tokens does not fit the engine")
    return found


def outside_s(plan: Plan) -> float:
    """Seconds of a request that its server spends outside the engine."""
    return front_end_s(plan.config.engine.vllm_version)


def answers(traffic: Traffic, plan: Plan, found: RunResult) -> Table:
    """The requests that were answered, as their client saw them: sent a front end's time before the engine had them."""
    whole = found.system.table
    table = {name: column[whole["request_id"] >= traffic.preamble] for name, column in whole.items()}
    return table | {"arrival_s": table["arrival_s"] - outside_s(plan)}


def _prediction(table: Table, gaps: Distribution, gave_up: int, unfit: int) -> LoadPrediction:
    completed = len(table["arrival_s"])
    if not completed:
        return LoadPrediction(0, gave_up, unfit, {}, {}, None, {}, 0.0, 0.0)
    span_s = float(table["finish_s"].max() - table["arrival_s"].min())
    return LoadPrediction(
        completed=completed,
        gave_up=gave_up,
        unfit=unfit,
        ttft_s=_statistics(ttft_s(table)),
        e2e_s=_statistics(e2e_s(table)),
        tpot_mean_s=mean_tpot_s(table),
        itl_s=_itl(table, gaps),
        requests_per_s=completed / span_s,
        output_tokens_per_s=float(table["output_tokens"].sum()) / span_s,
    )


def _itl(table: Table, gaps: Distribution) -> dict[str, float]:
    """Nothing where no answer has a second token."""
    mean_s = mean_tpot_s(table, weighs_tokens=True)
    return {} if mean_s is None else {"mean": mean_s} | {name: getattr(gaps, name) for name in PERCENTS}


def _statistics(values_s: Floats) -> dict[str, float]:
    found = {name: float(np.percentile(values_s, int(name[1:]))) for name in PERCENTS}
    return {"mean": float(values_s.mean())} | found
