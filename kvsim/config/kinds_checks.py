"""What must hold where a cluster has GPUs of several kinds."""

from __future__ import annotations

from collections.abc import Iterator

from kvsim.config.kinds import OF_ONE_KIND, canonical, gpu_key
from kvsim.config.layer import Origins
from kvsim.config.schema import Config
from kvsim.config.tree import dump, get
from kvsim.errors import nearest
from kvsim.spec.gpu import GPUS, known_gpu

Finding = tuple[str, tuple[str, ...]]
OTHERS = "cost.other_gpus"


def kinds(config: Config, _origins: Origins, mode: str | None) -> Iterator[Finding]:
    """GPUs that are named are known, and no figure of one kind stands beside others."""
    yield from _costs(config)
    if mode not in ("pd", None):
        return
    separation = config.pd_separation
    named = {gpu_key("prefill"): separation.prefill_gpu, gpu_key("decode"): separation.decode_gpu}
    yield from _named({key: gpu for key, gpu in named.items() if gpu is not None}, config)


def _named(named: dict[str, str], config: Config) -> Iterator[Finding]:
    for key, gpu in named.items():
        if known_gpu(gpu) is None:
            yield f"{key}: unknown GPU '{gpu}'; {nearest(gpu, GPUS)}", (key,)
    own = canonical(config.hardware.gpu)
    others = {key: gpu for key, gpu in named.items() if canonical(gpu) != own}
    for key, gpu in list(others.items())[:1]:
        beside = f"{key} = {gpu}"
        tree = dump(config)
        for figure in OF_ONE_KIND:
            if (value := get(tree, figure)) is not None:
                yield f"{figure} = {value:g} is of hardware.gpu = {own}: beside {beside} it must be null", (figure, key)
        method = config.steptime.method
        if method in ("fitted", "tables"):
            yield (
                f"{beside} beside hardware.gpu = {own}: a profile's times are of one GPU; steptime.method = '{method}' "
                "must be 'auto' or 'roofline'",
                (key, "steptime.method"),
            )


def _costs(config: Config) -> Iterator[Finding]:
    """``cost.other_gpus`` has each kind once, with what a list item must have."""
    own, seen = canonical(config.hardware.gpu), set[str]()
    for place, item in enumerate(config.cost.other_gpus or ()):
        where, gpu = f"{OTHERS}[{place}]", known_gpu(item.gpu)
        if gpu is None:
            yield f"{where}.gpu: unknown GPU '{item.gpu}'; {nearest(item.gpu, GPUS)}", (OTHERS,)
        elif gpu == own:
            said = "cost.gpu_usd_per_hour and cost.power are its"
            yield f"{where}.gpu = {item.gpu} is hardware.gpu, and {said}; must be another", (OTHERS,)
        elif gpu in seen:
            yield f"{where}.gpu = {item.gpu} stands there twice; must be once", (OTHERS,)
        seen.add(gpu or item.gpu)
