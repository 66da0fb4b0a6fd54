"""Which engine settings ask for."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.pipeline_engine import PipelineEngine
from kvsim.sim.engine.speculative_engine import SpeculativeEngine


def engine_kind(settings: EngineSettings) -> type[Engine]:
    """The engine that ``settings`` ask for."""
    if settings.pipeline_parallel > 1:
        return PipelineEngine
    return Engine if settings.speculation is None else SpeculativeEngine
