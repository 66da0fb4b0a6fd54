"""What a configuration asks for and no engine here does: said in every report, so that nobody counts on it."""

from __future__ import annotations

from kvsim.config import Config
from kvsim.spec import find_model


def unmodelled(config: Config) -> list[str]:
    """A sentence for each such thing. Raises ``ConfigError`` for an unknown model."""
    engine = config.engine
    if engine.data_parallel_size == 1 or not engine.enable_expert_parallel or not find_model(config.model.name).is_moe:
        return []
    return [
        f"engine.enable_expert_parallel with engine.data_parallel_size = {engine.data_parallel_size}: engines that "
        "share experts take their steps together, an idle one too; here each takes its own, which is too fast "
        "where their loads differ"
    ]
