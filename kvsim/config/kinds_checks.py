"""What must hold where a cluster has GPUs of several kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvsim.config.cluster_keys import Pool
from kvsim.config.kinds import OF_ONE_KIND, canonical, gpu_key, of_pool
from kvsim.config.layer import Origins
from kvsim.config.schema import Config
from kvsim.config.tree import dump, get
from kvsim.errors import nearest
from kvsim.spec.gpu import GPUS, known_gpu

Finding = tuple[str, tuple[str, ...]]
OTHERS = "cost.other_gpus"
POOLS = "cluster.pools"
ALONE = ("engine.pipeline_parallel_size", "engine.data_parallel_size")
"""Keys that must be 1 beside pools."""
TIERS = {"cluster": "cluster.tiers", "pd": "pd_separation.tiers", "predict": "pd_separation.tiers"}
"""By mode: the tiers of unified instances."""


def kinds(config: Config, _origins: Origins, mode: str | None) -> Iterator[Finding]:
    """GPUs that are named are known, and no figure of one kind stands beside others."""
    yield from _costs(config)
    named: dict[str, str | None] = {}
    if mode in ("pd", None):
        separation = config.pd_separation
        named = {gpu_key("prefill"): separation.prefill_gpu, gpu_key("decode"): separation.decode_gpu}
    if mode in ("pd", "cluster", "predict", None):
        named |= {f"{POOLS}[{place}].gpu": pool.gpu for place, pool in enumerate(config.cluster.pools or ())}
    yield from _named({name: gpu for name, gpu in named.items() if gpu is not None}, config)
    if mode in ("pd", "cluster", "predict", None) and config.cluster.pools:
        yield from _pools(config, config.cluster.pools, mode)


def _named(named: dict[str, str], config: Config) -> Iterator[Finding]:
    """``named``: the GPU that stands at each place of the configuration."""
    for name, gpu in named.items():
        if known_gpu(gpu) is None:
            yield f"{name}: unknown GPU '{gpu}'; {nearest(gpu, GPUS)}", (_key(name),)
    own = canonical(config.hardware.gpu)
    others = {name: gpu for name, gpu in named.items() if canonical(gpu) != own}
    for name, gpu in list(others.items())[:1]:
        key, beside = _key(name), f"{name} = {gpu}"
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


def _key(name: str) -> str:
    """The key that a place of the configuration is in."""
    return name.partition("[")[0]


def _pools(config: Config, pools: Sequence[Pool], mode: str | None) -> Iterator[Finding]:
    """What a pool must be by itself, and what pools cannot stand beside."""
    engine, length = config.engine, config.model.max_model_len
    gpus = 0
    for place, pool in enumerate(pools):
        where, own = f"{POOLS}[{place}]", of_pool(config, pool).engine
        degree = own.tensor_parallel_size
        gpus += pool.instances * degree
        host, rack = config.cluster.network.gpus_per_host, config.cluster.simulate_gpus_per_rack
        if mode != "predict" and (rack % degree or (host % degree and degree % host)):
            said = f"{where}: an instance of {degree} GPUs does not divide racks of {rack} or hosts of {host}"
            yield f"{said}: it stays within its rack", (POOLS,)
        if own.max_num_batched_tokens < own.max_num_seqs:
            said = f"{where}: a step of {own.max_num_batched_tokens} tokens holds none of {own.max_num_seqs} sequences"
            yield f"{said}: max_num_batched_tokens must be max_num_seqs or more", (POOLS,)
        if not engine.enable_chunked_prefill and own.max_num_batched_tokens < length:
            said = f"{where}: max_num_batched_tokens = {own.max_num_batched_tokens} is below model.max_model_len"
            yield f"{said} = {length}, and engine.enable_chunked_prefill is false", (POOLS,)
    simulated = config.cluster.simulate_racks * config.cluster.simulate_gpus_per_rack
    if gpus != simulated:
        sizes = ("cluster.simulate_racks", "cluster.simulate_gpus_per_rack")
        said = f"{POOLS} have {gpus} GPUs, and {' x '.join(sizes)} are {simulated}: must be equal"
        yield said, (POOLS, *sizes)
    for key in ALONE:
        if (value := get(dump(config), key)) != 1:
            yield f"{POOLS}: beside {key} = {value} they are not modelled; {key} must be 1", (POOLS, key)
    if config.steptime.method in ("fitted", "tables"):
        said = f"{POOLS}: a profile's times are of one kind of instance"
        key = "steptime.method"
        yield f"{said}; {key} = '{config.steptime.method}' must be 'auto' or 'roofline'", (POOLS, key)
    for own_mode, key in TIERS.items():
        if own_mode == mode and get(dump(config), key):
            yield f"{POOLS}: beside tiers they are not modelled; {key} must be []", (POOLS, key)


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
