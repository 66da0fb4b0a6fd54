"""What must hold between the watts of ``cost.power``, those of a known GPU in the place of what is not given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from kvsim.config.layer import Origins
from kvsim.config.schema import Config
from kvsim.spec.gpu import known_gpu
from kvsim.spec.power import WATTS, known_watts


def watts(config: Config, _origins: Origins, _mode: str | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """All three are known or none, and the more is done the more is drawn."""
    power = {name: (f"cost.power.{name}",) for name in WATTS}
    yield from _of_gpu(config.hardware.gpu, config.cost.power.model_dump(), "cost.power", power)
    for place, item in enumerate(config.cost.other_gpus or ()):
        given = {name: getattr(item, name) for name in WATTS}
        yield from _of_gpu(item.gpu, given, f"cost.other_gpus[{place}]", dict.fromkeys(WATTS, ("cost.other_gpus",)))


def _of_gpu(
    named: str, given: Mapping[str, float | None], where: str, keys: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``keys``: those that each of the watts stands in, which begin with ``where``."""
    own = [name for name in WATTS if given[name] is not None]
    if not own:
        return
    gpu = known_gpu(named) or named
    found = known_watts(gpu, given)
    lacking = [f"{where}.{name}" for name, value in found.items() if value is None]
    if lacking:
        said = f"of {gpu} no watts are known: give {' and '.join(lacking)} too, or none of them"
        yield said, tuple(key for name in own for key in keys[name])
    for low, high in pairwise(WATTS):
        low_w, high_w = found[low], found[high]
        if low_w is not None and high_w is not None and low_w > high_w:
            said = f"{where}.{low} = {low_w:g} is more than {where}.{high} = {high_w:g}"
            yield f"{said}; the more is done the more is drawn", (*keys[low], *keys[high])
