"""The step times of an instance: the roofline's, a profile's coefficients, or a profile's operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from kvsim.config import Config
from kvsim.errors import ConfigError
from kvsim.plan.data_parallel import lockstep_of_formula, lockstep_of_tables
from kvsim.plan.efficiencies import efficiencies_of, links_of
from kvsim.plan.nearest_profile import NearestProfile, nearest_profile, sharing
from kvsim.plan.pipeline import pipeline_of_formula, pipeline_of_tables, staged
from kvsim.plan.speculation import with_drafting
from kvsim.spec import GpuSpec, InstanceSpec
from kvsim.steptime import AffineStepTime, Coefficients, StepTime, roofline
from kvsim.steptime.adapters import with_adapters
from kvsim.steptime.allreduce import allreduce
from kvsim.steptime.assemble import Shape, assemble
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.steptime.fit import fitted
from kvsim.steptime.operators import Floats, Operators, read_operators
from kvsim.units import MICRO

FLASH_ATTENTION_2 = ((8, 0), (8, 6), (8, 9), (12, 0))
"""Compute capabilities on which vLLM runs FlashAttention-2."""
FLASH_ATTENTION_2_ROWS = 64
"""A tile over a paged KV cache has as many. Beside measured mixed steps of an RTX PRO 6000 what this says is off by -11
to +15% in the median at 200 tokens of context and more, and too little below (docs/leaderboard.md)."""
LONE_READER = 4
"""Times its share of the bandwidth that a multiprocessor has which reads alone: 11.5 to 12.4 ns a token, where its
share would give 54, in profiled batches of two context lengths on RTX PRO 6000 (LLMServingSim's profiles)."""
BLACKWELL = 10
"""Major compute capability of GPUs on which vLLM runs FlashInfer, with kernels of their own for decodes."""


@dataclass(frozen=True)
class KnownStepTime:
    """The step times of an instance, and for ``steptime.method: auto`` how they are known."""

    step_time: StepTime
    nearest: NearestProfile | None
    """``None`` where the configuration itself says which step times it has."""


def build_step_time(config: Config, spec: InstanceSpec) -> KnownStepTime:
    """How long the steps of one instance take. Raises ``ConfigError`` where the configuration lacks what that needs."""
    sizes = tuple(sorted(config.engine.cudagraph_capture_sizes))
    method = config.steptime.method
    if method == "tables" and spec.shares_experts and len(operators_of(config).moe):
        lockstep = lockstep_of_tables(config, spec, operators_of(config), shape_of(config, spec))
        return KnownStepTime(with_drafting(config, spec, lockstep), None)
    if method == "tables" and spec.shares_experts:
        raise ConfigError(
            "steptime.operators has no experts' table: engines that share experts need one; or steptime.method: 'auto'"
        )
    if method == "tables" and spec.pipeline_layers:
        return KnownStepTime(pipeline_of_tables(config, spec, operators_of(config), shape_of(config, spec)), None)
    if method == "tables":
        tables = assemble(operators_of(config), shape_of(config, spec))
        compute = config.pd_separation.compute
        tables = tables.scaled(compute.overhead_factor, 1 + (compute.decode_kv_overhead_factor or 0.0))
        return KnownStepTime(with_drafting(config, spec, TableStepTime(tables, fitted(tables), sizes)), None)
    # A formula is of an engine that holds all experts and layers; what is shared is taken out of it.
    alone = replace(spec, expert_parallel=1, redundant_experts=0) if spec.shares_experts else spec
    alone = replace(alone, pipeline_layers=())
    nearest = nearest_profile(config, alone) if method == "auto" else None
    coefficients = _configured(config, alone) if nearest is None else nearest.coefficients
    if spec.shares_experts and spec.adapters is not None:
        raise ConfigError("engine.enable_lora: beside data-parallel engines that share experts it is not modelled")
    if spec.shares_experts:
        found = lockstep_of_formula(config, spec, _overhead(coefficients, config))
        return KnownStepTime(with_drafting(config, spec, found), None if nearest is None else sharing(nearest, spec))
    if spec.pipeline_layers:
        pipeline = pipeline_of_formula(config, spec, _overhead(coefficients, config), nearest)
        return KnownStepTime(pipeline, None if nearest is None else staged(nearest, spec))
    coefficients = with_adapters(coefficients, spec, efficiencies_of(config, spec))
    target = AffineStepTime(_overhead(coefficients, config), sizes)
    return KnownStepTime(with_drafting(config, spec, target), nearest)


def operators_of(config: Config) -> Operators:
    """The operator times that the configuration names. Raises ``ConfigError`` where there are none."""
    if config.steptime.operators is None:
        raise ConfigError("steptime.method: 'tables' needs steptime.operators, e.g. from --calibration-profile")
    path = Path(config.steptime.operators)
    if not path.is_file():
        raise ConfigError(f"steptime.operators: {path}: no such file; 'calibrate' writes it beside its profile")
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, _version: int) -> Operators:
    return read_operators(path)


def shape_of(config: Config, spec: InstanceSpec) -> Shape:
    """The numbers of an instance that decide how its operators add up."""
    model, gpu, degree = spec.model, spec.gpu, spec.tensor_parallel
    kv_heads = 1.0 if model.is_mla else max(1.0, model.num_kv_heads / degree)
    expert_parallel = 1.0 if spec.slices_experts or spec.expert_parallel == 1 else 1 / spec.expert_share
    return Shape(
        num_layers=model.num_layers,
        kv_heads_per_gpu=kv_heads,
        num_sms=gpu.num_sms,
        allreduce_s=allreduce_of(config, spec),
        straggler_s_per_token=_straggler_s(model.head_dim, gpu, spec.kv_value_bytes),
        host_s=config.steptime.step_overhead_us * MICRO,
        host_s_per_seq=config.steptime.sequence_overhead_us * MICRO,
        num_dense_layers=model.num_dense_layers,
        experts_on_rank=model.num_experts / expert_parallel,
        expert_share=model.experts_per_token / model.num_experts if model.is_moe else 0.0,
        expert_parallel=expert_parallel,
        decode_tile_rows=FLASH_ATTENTION_2_ROWS if gpu.capability in FLASH_ATTENTION_2 else 0,
        decodes_apart=gpu.capability[0] == BLACKWELL,
    )


def _straggler_s(head_dim: int, gpu: GpuSpec, value_bytes: float) -> float:
    """Seconds for each token by which the longest context exceeds the mean: one KV head's keys and values, read by one
    multiprocessor while the others have nothing left to do."""
    return 2 * head_dim * value_bytes / (LONE_READER * gpu.hbm_bytes_per_s / gpu.num_sms)


def allreduce_of(config: Config, spec: InstanceSpec) -> Callable[[Floats], Floats] | None:
    """Seconds of one all-reduce of the hidden states of so many tokens; ``None`` on one GPU."""
    degree = spec.tensor_parallel
    return allreduce(spec.gpu, spec.model.hidden_size, degree, links_of(config)).seconds if degree > 1 else None


def _configured(config: Config, spec: InstanceSpec) -> Coefficients:
    """Fitted ones where ``steptime.method`` says so, else the roofline's."""
    steptime = config.steptime
    if steptime.method == "roofline":
        return roofline(spec, efficiencies_of(config, spec))
    if steptime.coefficients is None:
        raise ConfigError("steptime.method: 'fitted' needs steptime.coefficients, e.g. from --calibration-profile")
    return Coefficients(**steptime.coefficients.model_dump())


def _overhead(coefficients: Coefficients, config: Config) -> Coefficients:
    """Times the configured factors, of every step and of reading KV."""
    compute = config.pd_separation.compute
    if compute.decode_kv_overhead_factor is not None:
        factor = 1 + compute.decode_kv_overhead_factor
        coefficients = replace(
            coefficients,
            a_s_per_kv_token=coefficients.a_s_per_kv_token * factor,
            a_mixed_s_per_kv_token=coefficients.a_mixed_s_per_kv_token * factor,
        )
    if AffineStepTime(coefficients).decode_alone_s(1) <= 0:
        raise ConfigError("steptime.coefficients: a step of one token takes no time; allowed: e.g. const_s above 0")
    return coefficients.scaled(compute.overhead_factor)
