"""The stages of an instance as the configuration describes them, and their step times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvsim.config import Config, derived
from kvsim.errors import ConfigError
from kvsim.plan.efficiencies import efficiencies_of, links_of
from kvsim.plan.nearest_profile import NearestProfile, named
from kvsim.spec import InstanceSpec, ModelSpec
from kvsim.spec.stages import stage_layers
from kvsim.steptime import AffineStepTime, Coefficients, StepTime
from kvsim.steptime.allreduce import ACTIVATION_BYTES, allreduce
from kvsim.steptime.assemble import Shape
from kvsim.steptime.curves.pipeline import PipelineStepTime
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.steptime.fit import fitted
from kvsim.steptime.operators import Operators
from kvsim.steptime.stages import SendLinks, formulas_of_stages, full_pipeline, sends_of, tables_of_stages
from kvsim.units import MICRO

KEY = "engine.pipeline_parallel_size"


def check_alone(config: Config, beside: str) -> None:
    """Raise ``ConfigError`` for a pipeline: what it would stand beside is not modelled with it."""
    if config.engine.pipeline_parallel_size > 1:
        stages = config.engine.pipeline_parallel_size
        raise ConfigError(f"{KEY} = {stages}: beside {beside} it is not modelled; allowed: 1")


def pipeline_layers_of(config: Config, model: ModelSpec) -> tuple[int, ...]:
    """Layers of each stage; none without a pipeline. Raises ``ConfigError`` where they do not make the model's."""
    stages, given = config.engine.pipeline_parallel_size, config.engine.pipeline_layers
    if stages == 1:
        return ()
    if stages > model.num_layers:
        raise ConfigError(f"{KEY} = {stages}: must be at most the {model.num_layers} layers of {model.name}")
    if given and sum(given) != model.num_layers:
        raise ConfigError(
            f"engine.pipeline_layers = {list(given)} are {sum(given)} layers: must be the {model.num_layers} of "
            f"{model.name}, as vLLM demands"
        )
    return tuple(given) or stage_layers(model.num_layers, stages)


def no_groups(config: Config, spec: InstanceSpec) -> str:
    """Why a model whose layers have block tables of several kinds is refused, and what to do."""
    model = spec.model
    said = (
        f"{KEY} = {config.engine.pipeline_parallel_size}: layers of {model.name} with a window free what lies before "
        "it, which is not modelled in a pipeline"
    )
    is_mixed = model.num_window_layers < model.attention_layers
    return f"{said}; engine.disable_hybrid_kv_cache_manager = true has them keep it" if is_mixed else said


def pipeline_of_formula(
    config: Config, spec: InstanceSpec, whole: Coefficients, nearest: NearestProfile | None
) -> PipelineStepTime:
    """Step times of stages of which one that had all layers would take ``whole``."""
    is_roofline = config.steptime.method == "roofline" if nearest is None else nearest.level == "roofline"
    has_head = is_roofline or not whole.dense_knots
    stages = formulas_of_stages(whole, spec, efficiencies_of(config, spec), has_head=has_head)
    sizes = tuple(sorted(config.engine.cudagraph_capture_sizes))
    return _pipeline(config, spec, [AffineStepTime(one, sizes) for one in stages])


def pipeline_of_tables(config: Config, spec: InstanceSpec, operators: Operators, shape: Shape) -> PipelineStepTime:
    """Step times of stages whose operators were measured."""
    compute, sizes = config.pd_separation.compute, tuple(sorted(config.engine.cudagraph_capture_sizes))
    factors = compute.overhead_factor, 1 + (compute.decode_kv_overhead_factor or 0.0)
    tables = [one.scaled(*factors) for one in tables_of_stages(operators, shape, spec.stages, spec)]
    shares = tuple(stage.layers / spec.stages[0].layers for stage in spec.stages)
    return _pipeline(config, spec, [TableStepTime(one, fitted(one), sizes) for one in tables], shares)


def _pipeline(
    config: Config, spec: InstanceSpec, stages: Sequence[StepTime], shares: tuple[float, ...] = ()
) -> PipelineStepTime:
    sends = sends_of(spec, _links(config, spec))
    whole = full_pipeline([one.coefficients for one in stages], sends)
    return PipelineStepTime(tuple(stages), sends, whole, shares)


def _links(config: Config, spec: InstanceSpec) -> SendLinks:
    """Links carry what they do in all-reduces of two GPUs, NICs what they do between instances."""
    steptime, near = config.steptime, allreduce(spec.gpu, spec.model.hidden_size, 2, links_of(config))
    gathering_us = steptime.collective_latency_us + spec.tensor_parallel * steptime.collective_latency_us_per_gpu
    return SendLinks(
        near_s=(steptime.collective_latency_us + 2 * steptime.collective_latency_us_per_gpu) * MICRO,
        far_s=derived.nic_latency_s(config),
        gather_s=gathering_us * MICRO,
        near_bytes_per_s=spec.model.hidden_size * ACTIVATION_BYTES / near.s_per_token,
        far_bytes_per_s=derived.nic_bytes_per_s_per_gpu(config),
        gpus_per_host=config.cluster.network.gpus_per_host,
    )


def staged(nearest: NearestProfile, spec: InstanceSpec) -> NearestProfile:
    """How step times are known of stages of which ``nearest`` is one that has all layers."""
    if nearest.level != "measured":
        return nearest
    alone = named(replace(spec, pipeline_layers=()))
    layers = " + ".join(str(stage.layers) for stage in spec.stages)
    words = f"{alone} was measured with all layers: they are split into stages of {layers} by arithmetic"
    return replace(nearest, level="scaled", warning=f"{words}, which was never held against a run")
