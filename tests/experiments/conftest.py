"""Small benches for studies that stand alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvsim.experiments.bench import Bench
from kvsim.experiments.finding import Finding, find_out, own_configuration
from kvsim.experiments.registry import find
from kvsim.modes.variants import Layers
from kvsim.sim.executor import Serial


@pytest.fixture
def bench_of() -> Callable[..., Bench]:
    """``bench_of(name, "key=value", ...)``: where a study runs at the smallest scale, with further assignments."""

    def bench(name: str, *sets: str) -> Bench:
        study = find(name)
        return Bench(study.mode, own_configuration(study, Layers(preset="smoke", sets=sets)), Serial())

    return bench


@pytest.fixture
def found_by() -> Callable[..., Finding]:
    """``found_by(name, "key=value", ...)``: what a study finds at the smallest scale."""

    def found(name: str, *sets: str) -> Finding:
        return find_out(find(name), Layers(preset="smoke", sets=sets), None, Serial())

    return found
