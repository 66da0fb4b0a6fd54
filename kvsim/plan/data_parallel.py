"""Step times of data-parallel engines that share experts, as the configuration describes them."""

from __future__ import annotations

from dataclasses import replace

from kvsim.config import Config, derived
from kvsim.errors import ConfigError
from kvsim.plan.efficiencies import efficiencies_of, links_of
from kvsim.plan.vllm_defaults import all2all_backend
from kvsim.spec import InstanceSpec
from kvsim.spec.expert_load import measured_factor, power_law_factor
from kvsim.steptime import AffineStepTime, Coefficients, StepTime
from kvsim.steptime.allreduce import ACTIVATION_BYTES, allreduce
from kvsim.steptime.assemble import Shape, assemble
from kvsim.steptime.curves.lockstep import LockstepStepTime, SharedLayers
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.steptime.fit import fitted
from kvsim.steptime.operators import Operators
from kvsim.steptime.shared_experts import (
    Exchange,
    ExchangeLinks,
    alike,
    exchange_of,
    formula_parts,
    table_parts,
)
from kvsim.steptime.work import remaining_allreduces
from kvsim.units import MICRO


def lockstep_of_formula(config: Config, spec: InstanceSpec, alone: Coefficients) -> LockstepStepTime:
    """Step times of engines of which one that held all experts would take ``alone``."""
    fullest, efficiencies = fullest_of(config, spec), efficiencies_of(config, spec)
    own, shared = formula_parts(alone, spec, efficiencies, exchange_between(config, spec, fullest), fullest)
    return _together(config, spec, AffineStepTime(own, _sizes(config)), own, shared)


def lockstep_of_tables(config: Config, spec: InstanceSpec, operators: Operators, shape: Shape) -> LockstepStepTime:
    """Step times of engines whose operators were measured, a GPU's part of the experts among them."""
    fullest, compute = fullest_of(config, spec), config.pd_separation.compute
    member = replace(shape, is_member=True, remaining_allreduces=remaining_allreduces(spec))
    tables = assemble(operators, member)
    tables = tables.scaled(compute.overhead_factor, 1 + (compute.decode_kv_overhead_factor or 0.0))
    shared = table_parts(operators, shape, spec, exchange_between(config, spec, fullest), fullest)
    shared = shared.scaled(compute.overhead_factor)
    own = fitted(tables)
    return _together(config, spec, TableStepTime(tables, own, _sizes(config)), own, shared)


def _together(
    config: Config, spec: InstanceSpec, times: StepTime, own: Coefficients, shared: SharedLayers
) -> LockstepStepTime:
    """``own``: the formula nearest to ``times``."""
    engines, speculative = spec.engines_sharing_experts, config.engine.speculative
    idle_tokens = 1 if speculative.method is None else 1 + speculative.num_speculative_tokens
    return LockstepStepTime(times, shared, engines, alike(own, shared, engines), _sizes(config), idle_tokens)


def _sizes(config: Config) -> tuple[int, ...]:
    return tuple(sorted(config.engine.cudagraph_capture_sizes))


def exchange_between(config: Config, spec: InstanceSpec, fullest: float) -> Exchange:
    """What engines that share experts exchange, over the configured links. ``fullest``: see ``fullest_of``.

    A gather and a scatter are an all-reduce: its links carry as much, and both wait no less than it does.
    """
    engine, steptime, gpus = config.engine, config.steptime, spec.expert_parallel
    gpus_per_host, hidden_size = config.cluster.network.gpus_per_host, spec.model.hidden_size
    near = min(gpus, max(gpus_per_host, 2))
    one = allreduce(spec.gpu, hidden_size, near, links_of(config))
    collective_us = steptime.collective_latency_us + gpus * steptime.collective_latency_us_per_gpu
    own = ExchangeLinks(
        collective_s=max(collective_us * MICRO, one.latency_s / 2),
        link_bytes_per_s=hidden_size * ACTIVATION_BYTES * 2 * (near - 1) / near / one.s_per_token,
        nic_bytes_per_s=derived.nic_bytes_per_s_per_gpu(config),
        rated_nic_bytes_per_s=derived.rated_nic_bytes_per_s_per_gpu(config),
        gpus_per_host=gpus_per_host,
    )
    return exchange_of(spec, all2all_backend(engine.all2all_backend, engine.vllm_version), own, fullest)


def check_experts(config: Config, spec: InstanceSpec) -> None:
    """Raise ``ConfigError`` for whole experts that are fewer than the GPUs which share them, and for copies that do not
    divide among these."""
    engine, model, gpus = config.engine, spec.model, spec.expert_parallel
    if spec.slices_experts or not model.is_moe or gpus == 1:
        return
    if gpus > model.num_experts:
        raise ConfigError(
            f"engine.enable_expert_parallel: {gpus} GPUs share the {model.num_experts} experts of {model.name}, whole "
            "ones each: must be at most as many (engine.tensor_parallel_size x engine.data_parallel_size)"
        )
    if engine.enable_eplb and (model.num_experts + engine.num_redundant_experts) % gpus:
        raise ConfigError(
            f"engine.num_redundant_experts = {engine.num_redundant_experts}: with the {model.num_experts} experts of "
            f"{model.name} it must make a multiple of the {gpus} GPUs that share them"
        )


def fullest_of(config: Config, spec: InstanceSpec) -> float:
    """Tokens of the GPU that gets most of them, over the mean. Raises ``ConfigError`` for shares that are not as many
    as there are experts."""
    engine, load, model, gpus = config.engine, config.engine.expert_load, spec.model, spec.expert_parallel
    if spec.slices_experts:
        return 1.0
    placed = engine.num_redundant_experts, gpus
    if load.distribution == "uniform":
        return measured_factor([1.0] * model.num_experts, *placed, rebalanced=engine.enable_eplb)
    if load.distribution == "power_law":
        return power_law_factor(load.exponent, model.num_experts, *placed, rebalanced=engine.enable_eplb)
    if len(load.shares) != model.num_experts:
        raise ConfigError(
            f"engine.expert_load.shares has {len(load.shares)} numbers: must have one for each of the "
            f"{model.num_experts} experts of {model.name}"
        )
    return measured_factor(load.shares, *placed, rebalanced=engine.enable_eplb)
