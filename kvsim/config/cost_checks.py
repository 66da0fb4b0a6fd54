"""What must hold between the watts of ``cost.power``, those of a known GPU in the place of what is not given."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from kvsim.config.layer import Origins
from kvsim.config.schema import Config
from kvsim.spec.gpu import known_gpu
from kvsim.spec.power import WATTS, known_watts


def watts(config: Config, _origins: Origins, _mode: str | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """All three are known or none, and the more is done the more is drawn."""
    given = config.cost.power.model_dump()
    own = [f"cost.power.{name}" for name in WATTS if given[name] is not None]
    if not own:
        return
    gpu = known_gpu(config.hardware.gpu) or config.hardware.gpu
    found = known_watts(gpu, given)
    lacking = [f"cost.power.{name}" for name, value in found.items() if value is None]
    if lacking:
        yield f"of {gpu} no watts are known: give {' and '.join(lacking)} too, or none of them", tuple(own)
    for low, high in pairwise(WATTS):
        low_w, high_w = found[low], found[high]
        if low_w is not None and high_w is not None and low_w > high_w:
            said = f"cost.power.{low} = {low_w:g} is more than cost.power.{high} = {high_w:g}"
            yield f"{said}; the more is done the more is drawn", (f"cost.power.{low}", f"cost.power.{high}")
