"""What GPUs draw while a system serves, from what its requests asked of them: nothing is counted while it runs.

Time without steps is idle. Of the time with steps one part goes to prompts, and draws what computing does; the rest are
decode steps of the mean batch on the mean context, which draw the more the longer they compute beside what they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kvsim.config import Config
from kvsim.config.kinds import is_own, other_gpu
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Plan
from kvsim.record.result import RoleUse, SystemResult, Table
from kvsim.spec.power import POWERS, WATTS, GpuPower, known_watts
from kvsim.steptime.batch import Batch, Decodes, PromptChunk
from kvsim.steptime.work import ATTENTION_DECODE, ATTENTION_PREFILL, works_of


@dataclass(frozen=True)
class RolePower:
    """One side of a system, over the whole run."""

    role: str
    gpu: str
    """The kind of its GPUs."""
    gpus: int
    prompt_share: float
    """What computing prompts takes of the time with steps."""
    position: float
    """Computing over reading in the other steps, 1 at the most."""
    step_w: float
    """A GPU's in the mean, while steps run."""
    window_w: float
    """And over the measured window, idle time too."""


def power_of(config: Config, gpu: str) -> GpuPower | None:
    """What a GPU draws: the configured figures, each in place of the known GPU's; ``None``: not all are known."""
    where, given = _given_watts(config, gpu)
    known = POWERS.get(gpu)
    idle_w, memory_bound_w, compute_bound_w = known_watts(gpu, given).values()
    if idle_w is None or memory_bound_w is None or compute_bound_w is None:
        return None
    own = [name for name in WATTS if given[name] is not None]
    source = f"{where}.{', '.join(own)}" if own else ""
    if known is not None and len(own) < len(WATTS):
        source = f"{source}; else {known.source}" if own else known.source
    return GpuPower(idle_w, memory_bound_w, compute_bound_w, source)


def _given_watts(config: Config, gpu: str) -> tuple[str, Mapping[str, float | None]]:
    """Where the watts of a kind can be configured, and what stands there."""
    found = other_gpu(config, gpu)
    if found is not None:
        return f"cost.other_gpus ({gpu})", {name: getattr(found, name) for name in WATTS}
    return "cost.power", config.cost.power.model_dump() if is_own(config, gpu) else dict.fromkeys(WATTS)


def why_unknown(plan: Plan) -> str | None:
    """Why a system's energy is not known though its GPUs' watts are; ``None``: it is."""
    if plan.spec.pipeline_layers:
        return "stages of a pipeline are busy in turn, which is not told apart"
    if plan.colocated_settings.speculation is not None:
        return "drafting and verifying are not counted"
    return None


@dataclass(frozen=True)
class Part:
    """Instances of one side and one kind, and the requests that they served."""

    use: RoleUse
    instance: Instance
    table: Table

    @property
    def gpu(self) -> str:
        return self.instance.spec.gpu.name


def parts_of(result: SystemResult, plan: Plan) -> list[Part]:
    """All instances of a system, side by side and kind by kind."""
    return [part for role in result.roles for part in _parts(role, result.table, plan)]


def _parts(role: RoleUse, table: Table, plan: Plan) -> list[Part]:
    if not role.pools:
        return [Part(role, _instance(plan, role.role), table)]
    found = []
    for pool, kind in zip(role.pools, plan.by_kind(), strict=True):
        served = (table["prefill_instance"] >= pool.first) & (
            table["prefill_instance"] < pool.first + kind.num_instances
        )
        found.append(Part(pool.use, kind.colocated, {name: column[served] for name, column in table.items()}))
    return found


def gpus_by_kind(result: SystemResult, plan: Plan) -> dict[str, int]:
    """GPUs of each kind that instances stand on; where all are of one kind, those on which none does, too."""
    found: dict[str, int] = {}
    for part in parts_of(result, plan):
        found[part.gpu] = found.get(part.gpu, 0) + part.use.gpus
    return dict.fromkeys(found, plan.num_gpus) if len(found) == 1 and plan.spec.gpu.name in found else found


def gpu_of(plan: Plan, role: str) -> str:
    """The kind of GPU that instances of a role have: the first, where there are several."""
    return _instance(plan, role).spec.gpu.name


def role_powers(result: SystemResult, plan: Plan, power: GpuPower | Mapping[str, GpuPower]) -> list[RolePower]:
    """What each side draws, kind by kind; ``power``: of all GPUs, or of each kind, without which it is left out."""
    return [
        _role_power(part, plan, own, result.end_s)
        for part in parts_of(result, plan)
        if (own := power if isinstance(power, GpuPower) else power.get(part.gpu)) is not None
    ]


def _instance(plan: Plan, role: str) -> Instance:
    found: Instance = {"prefill": plan.prefill, "decode": plan.decode}.get(role, plan.colocated)
    return found


def _role_power(part: Part, plan: Plan, power: GpuPower, end_s: float) -> RolePower:
    role, table, instance = part.use, part.table, part.instance
    busy_s = _busy_s(role, end_s)
    share = position = 0.0
    if busy_s > 0 and role.role != "decode":
        share = min(1.0, _prompts_s(table, instance, plan.config) / busy_s)
    if busy_s > 0 and role.role != "prefill":
        position = _decode_position(table, instance, plan.config, busy_s)
    step_w = share * power.compute_bound_w + (1 - share) * power.step_w(position)
    window_w = power.idle_w * (1 - role.busy) + step_w * role.busy
    return RolePower(role.role, part.gpu, role.gpus, share, position, step_w, window_w)


def _busy_s(role: RoleUse, end_s: float) -> float:
    """Instance-seconds with steps, over the whole run."""
    if not len(role.timeline_s):
        return 0.0
    widths_s = np.diff(np.append(role.timeline_s, max(end_s, float(role.timeline_s[-1]))))
    return float((role.timeline_busy * widths_s).sum()) * role.instances


def _prompts_s(table: Table, instance: Instance, config: Config) -> float:
    """Instance-seconds that computing all prompts takes at the speeds that kernels reach, what was computed again after
    a preemption included.

    Work on a prompt is linear in what is computed of it, and quadratic in attention: one prompt of the mean length
    behind a prefix that makes up for the spread stands for all.
    """
    computed = table["computed_tokens"] + table["recomputed_tokens"]
    total = float(computed.sum())
    if not total:
        return 0.0
    before = np.maximum(table["prompt_tokens"] - table["computed_tokens"], 0.0)
    mean = max(1, round(total / len(computed)))
    pairs = float((computed * before + computed**2 / 2).sum()) / total
    chunk = PromptChunk(mean, max(0, round(pairs - mean / 2)))
    compute_s, _ = _seconds(instance, config, Batch(chunks=(chunk,)))
    return compute_s * total / mean


def _decode_position(table: Table, instance: Instance, config: Config, busy_s: float) -> float:
    """Computing over reading in a step of the mean batch: as many sequences as decode at a time while steps run."""
    tokens = np.maximum(table["output_tokens"] - 1, 0.0)
    total = float(tokens.sum())
    if not total:
        return 0.0
    batch = min(float((table["finish_s"] - table["first_token_s"]).sum()) / busy_s, instance.settings.max_num_seqs)
    context = float((tokens * (table["prompt_tokens"] + (table["output_tokens"] + 1) / 2)).sum()) / total
    decodes = Decodes(max(1, round(batch)), max(1, round(context)))
    compute_s, memory_s = _seconds(instance, config, Batch((decodes,)))
    return min(1.0, compute_s / memory_s)


def _seconds(instance: Instance, config: Config, batch: Batch) -> tuple[float, float]:
    """What a step's computing and its reading take on each GPU, each by itself, at the speeds that kernels reach."""
    reached, spec = efficiencies_of(config, instance.spec), instance.spec
    compute_s = memory_s = 0.0
    for name, work in works_of(spec, batch).items():
        is_attention = name in (ATTENTION_PREFILL, ATTENTION_DECODE)
        compute_s += work.compute_s / (reached.attention_compute if is_attention else reached.compute)
        memory_s += work.memory_s / (reached.kv_reading if is_attention else reached.weight_reading)
    return compute_s, memory_s
