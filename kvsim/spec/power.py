"""What GPUs draw, as it was measured: idle, in steps that only read memory, in steps that only compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuPower:
    """Watts of one board."""

    idle_w: float
    """While no step runs, with a model loaded."""
    memory_bound_w: float
    compute_bound_w: float
    source: str

    def step_w(self, position: float) -> float:
        """While steps run whose computing takes ``position``, 0 to 1, of the time of their reading."""
        return self.memory_bound_w + (self.compute_bound_w - self.memory_bound_w) * position


WATTS = ("idle_w", "memory_bound_w", "compute_bound_w")
POWERS = {
    "h100-sxm": GpuPower(
        idle_w=80.3,
        memory_bound_w=443.0,
        compute_bound_w=700.0,
        source="80 to 700 W of an H100 SXM, docs/cost.md",
    ),
}
"""Only GPUs of which all three are published.

H100 SXM: idle that of an H200, which has the same die and the same limit (api.serialalice.pt/alice-benchmark, June
2026: 80.3 W); memory-bound what Qwen3-14B in bf16 drew at 8 sequences, in the mean over a run (the ML.ENERGY Benchmark
v3.0, December 2025, github.com/ml-energy/leaderboard: 443.0 W); compute-bound the board's limit by NVIDIA's data sheet.
"""


def known_watts(gpu: str, given: Mapping[str, float | None]) -> dict[str, float | None]:
    """The three figures of a GPU of the catalogue, each the ``given`` one where that is no ``None``."""
    known = POWERS.get(gpu)
    own: Mapping[str, float | None] = {} if known is None else {name: getattr(known, name) for name in WATTS}
    return {name: own.get(name) if given[name] is None else given[name] for name in WATTS}
