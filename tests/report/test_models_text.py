"""What is said of several models: true of the figures it is said of, and nothing where it is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.config import load_config
from kvsim.record.figures import SideUse
from kvsim.report import caveats
from kvsim.report.models_text import _below, _caveats, _missed, _needed, _spare

CONFIG = load_config(sets=["slo.share=0.9", "load.rho=0.7"]).config


def side(instances: int, load: float | None, degree: int = 4) -> SideUse:
    return SideUse(instances=instances, gpus=instances * degree, busy=0.5, kv_usage=0.5, load=load)


def one(sides: dict[str, SideUse], share: float | None = 0.95, **changed: Any) -> dict[str, Any]:
    told = SimpleNamespace(
        goodput=SimpleNamespace(share=share), steady=SimpleNamespace(ok=True), fleet=None, scaling=None
    )
    told.utilisation = sides
    for name, value in changed.items():
        setattr(told, name, value)
    gpus = sum(each.gpus for each in sides.values())
    return {"chat": (told, SimpleNamespace(config=CONFIG, cluster=SimpleNamespace(gpus=gpus)))}


def test_gpus_to_spare() -> None:
    (said,) = _spare(one({"colocated": side(8, 0.25)}))
    assert said == (
        "GPUs to spare: chat is within its SLO at 25% of its maximum rate; without 20 of its 32 GPUs that would be "
        "67%, by arithmetic: nothing was run so."
    )
    (said,) = _spare(one({"prefill": side(2, 0.6), "decode": side(6, 0.1)}))
    assert said == (
        "GPUs to spare: chat is within its SLO at 60% and 10% of the maximum rates of prefill and decode; without 20 "
        "of its 32 GPUs that would be 60% and 60%, by arithmetic: nothing was run so."
    )


@pytest.mark.parametrize(
    "models",
    [
        one({"colocated": side(8, 0.65)}),
        one({"colocated": side(1, 0.01)}),
        one({"colocated": side(8, None)}),
        one({"colocated": side(8, 0.25)}, share=0.85),
        one({"colocated": side(8, 0.25)}, share=None),
        one({"colocated": side(8, 0.25)}, steady=SimpleNamespace(ok=False)),
        one({"colocated": side(8, 0.25)}, fleet=object()),
    ],
)
def test_none_to_spare(models: dict[str, Any]) -> None:
    assert list(_spare(models)) == []


@given(st.integers(1, 50), st.floats(0, 2), st.sampled_from([1, 2, 4]))
def test_the_fewest_that_are_loaded_no_more_than_wanted(groups: int, load: float, group: int) -> None:
    engine = CONFIG.engine.model_copy(update={"data_parallel_size": group})
    config = CONFIG.model_copy(update={"engine": engine})
    instances = groups * group
    found = _needed(side(instances, load), config)
    fitting = [n for n in range(group, instances, group) if load * instances / n <= 0.7 * (1 + 1e-12)]
    assert found == min([*fitting, instances])


def test_who_misses_its_slo() -> None:
    assert list(_missed(one({}, share=0.9))) == []
    assert list(_missed(one({}, share=None))) == []
    (said,) = _missed(one({}, share=0.899))
    assert said == ("Over its SLO: chat has 89.9% of its requests within it, where 90% (slo.share) are wanted.")


@given(st.floats(0.001, 1), st.floats(0.0011, 1))
def test_a_share_that_misses_reads_so(share: float, wanted: float) -> None:
    if not wanted - share > 1e-9:
        return
    told = _below(share, wanted)
    assert told[0] in "<>" or float(told.rstrip("%")) < 100 * wanted


def test_what_is_of_the_command_is_not_said_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of CPU are of all models: each of them took fewer."""
    monkeypatch.setattr(caveats, "LONG_CPU_S", 0.0)
    run = SimpleNamespace(engine="pure", cpu_s=40.0)
    workload, cluster = SimpleNamespace(notes=()), SimpleNamespace(notes=(), caveat="apart")
    own = SimpleNamespace(run=run, launch=None, workload=workload, results=(), why=(), config=CONFIG)
    report: Any = SimpleNamespace(models={"chat": own, "code": own}, cluster=cluster)
    first, last = _caveats(report, "note")
    assert first.startswith("note: 40 s of CPU in pure Python;") and last == "note: apart"
