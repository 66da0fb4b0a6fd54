"""Seconds of a request outside the engine: HTTP, text to tokens and back, the engine's input queue, the client."""

from __future__ import annotations

from kvsim.plan.vllm_defaults import is_async

FRONT_END_S = 0.0059
"""What vLLM 0.15.1 left between the engine's TTFT and the client's, in the median of seventeen loads of dense models
(docs/leaderboard.md). It is taken for all versions that schedule ahead."""
OLDER_FRONT_END_S = 0.02
"""What versions before had: chosen on one load of version 0.11 at one request a second (docs/validation.md)."""


def front_end_s(vllm_version: str) -> float:
    """Seconds outside an engine of that version; an empty one is a present one's."""
    return FRONT_END_S if is_async(vllm_version) else OLDER_FRONT_END_S
