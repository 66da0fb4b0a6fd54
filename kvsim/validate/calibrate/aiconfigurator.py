"""Operator times from AIConfigurator's tables of measured kernels (Apache-2.0), for one model and degree.

The tables are Parquet files of one GPU and one engine version: ``gemm_perf``, ``context_attention_perf``,
``generation_attention_perf``, ``custom_allreduce_perf``, ``moe_perf``. Where there are tables of several versions, each
operator takes the median of those that measured it: a single one is off by 5 to 20% at some shapes. Memory-bound passes
are not in the tables: they take the time of the shortest product that was measured, which is a kernel in a CUDA graph
with next to nothing to do, and bytes over ``PASS_SHARE`` of the bandwidth, as the tables' ``system.yaml`` has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kvsim.errors import ConfigError
from kvsim.spec import InstanceSpec
from kvsim.steptime.allreduce import ACTIVATION_BYTES
from kvsim.steptime.curves.coefficients import extended
from kvsim.steptime.operators import Floats, Operators
from kvsim.steptime.work import pass_values
from kvsim.units import MILLI
from kvsim.validate.calibrate.measured_experts import EXPERTS, expert_rows
from kvsim.validate.calibrate.measured_kernels import columns, decode_rows, prefill_rows, read_table
from kvsim.validate.calibrate.measured_products import Products
from kvsim.validate.calibrate.operators import MeasuredOperators
from kvsim.validate.calibrate.shapes import head_product, layer_products, mixture_products

if TYPE_CHECKING:
    import polars as pl

METHOD = "kernels measured one by one; memory-bound passes by arithmetic"
PASS_SHARE = 0.8
GEMM, PREFILL, DECODE, ALLREDUCE = (
    "gemm_perf",
    "context_attention_perf",
    "generation_attention_perf",
    "custom_allreduce_perf",
)
PREFIXES = (0.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0)
SAMPLER_SEQS = (1.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
WRITES_APART = (0, 15)
"""From this version of vLLM on, attention as it was measured does not write the new tokens' KV any more."""
Read = TypeVar("Read")


def read_folders(folders: Sequence[Path], spec: InstanceSpec) -> MeasuredOperators:
    """The tables of one GPU, a folder an engine version. Raises ``ConfigError`` (file, what is missing) where none of
    them covers an operator of the instance."""
    for folder in folders:
        if not (folder / f"{GEMM}.parquet").is_file():
            raise ConfigError(f"{folder}: no {GEMM}.parquet in it; AIConfigurator's tables of one GPU are wanted")
    if spec.model.is_mla:
        raise ConfigError(f"model {spec.model.name}: only models with ordinary KV heads are supported here")
    meta = {"gpu": spec.gpu.name, "model": spec.model.name}
    licence = {"licence": "AIConfigurator, Apache-2.0"}
    files = tuple(path for folder in folders for path in _files(folder, spec))
    gemm_of = cache(partial(_gemm, spec))
    operators, method = _operators(folders, spec, gemm_of), _method(folders, spec, gemm_of)
    return MeasuredOperators(operators, meta, files, method, licence)


def _gemm(spec: InstanceSpec, folder: Path) -> Products:
    return Products(read_table(folder / f"{GEMM}.parquet"), spec.gpu, like_16_bits=spec.model.is_moe)


def _method(folders: Sequence[Path], spec: InstanceSpec, gemm_of: Callable[[Path], Products]) -> str:
    """How the times came about; products besides those of experts may be by arithmetic, too."""
    if any(gemm_of(folder).has(spec.weight_dtype) for folder in folders):
        return METHOD
    return f"{METHOD}, as {spec.weight_dtype} products besides the experts'"


def _operators(folders: Sequence[Path], spec: InstanceSpec, gemm_of: Callable[[Path], Products]) -> Operators:
    dense = _each(folders, lambda folder: _dense(gemm_of(folder), spec))
    if spec.tensor_parallel > 1:
        dense += _each(folders, lambda folder: {"allreduce": _allreduce(folder, spec)})
    heads = _each(folders, lambda folder: _head(gemm_of(folder), spec))
    attention = np.concatenate(
        (
            _median_rows(_each(folders, lambda folder: _prefill(read_table(folder / f"{PREFILL}.parquet"), spec))),
            _median_rows(_each(folders, lambda folder: _decode(folder, spec, gemm_of))),
        )
    )
    moe = np.zeros((0, 3))
    if spec.model.is_moe:
        moe = _median_rows(_each(folders, lambda folder: expert_rows(read_table(folder / f"{EXPERTS}.parquet"), spec)))
    return Operators(dense=_medians(dense), per_sequence=_medians(heads), attention=attention, moe=moe)


def _each(folders: Sequence[Path], read: Callable[[Path], Read]) -> list[Read]:
    """What the folders hold. Raises the last one's ``ConfigError`` where none holds it."""
    found, missing = [], None
    for folder in folders:
        try:
            found.append(read(folder))
        except ConfigError as error:
            missing = error
    if missing is not None and not found:
        raise missing
    return found


def _medians(measured: list[dict[str, Floats]]) -> dict[str, Floats]:
    """By operator, rows of (place, seconds): of those that hold it, at the places that all of them measured."""
    names = dict.fromkeys(name for one in measured for name in one)
    return {name: _median_rows([one[name] for one in measured if name in one]) for name in names}


def _median_rows(measured: list[Floats]) -> Floats:
    """Rows of (places, seconds) with the median of the times at equal places, at those that all measured; a version
    that measured less than a tenth of what another did says nothing."""
    most = max(map(len, measured))
    by_place = [{tuple(row[:-1]): float(row[-1]) for row in rows} for rows in measured if 10 * len(rows) >= most]
    places = sorted(reduce(lambda some, more: some & more.keys(), by_place, set(by_place[0])))
    return np.array([(*place, np.median([one[place] for one in by_place if place in one])) for place in places])


def _files(folder: Path, spec: InstanceSpec) -> list[Path]:
    """Table files that the instance needs and the folder has."""
    names = [GEMM, PREFILL, DECODE, *([ALLREDUCE] if spec.tensor_parallel > 1 else [])]
    names += [EXPERTS] if spec.model.is_moe else []
    return [path for name in names if (path := folder / f"{name}.parquet").is_file()]


def _dense(gemm: Products, spec: InstanceSpec) -> dict[str, Floats]:
    model, degree = spec.model, spec.tensor_parallel
    products = [*layer_products(model, degree), *mixture_products(model, degree)]
    dense = {product.name: gemm.times(product, spec.weight_dtype) for product in products}
    tokens = dense["qkv_proj"][:, 0]
    bytes_per_s = spec.gpu.hbm_bytes_per_s * PASS_SHARE
    for name, values in pass_values(model, degree).items():
        dense[name] = np.column_stack((tokens, gemm.shortest_s + tokens * (values * ACTIVATION_BYTES / bytes_per_s)))
    return dense


def _head(gemm: Products, spec: InstanceSpec) -> dict[str, Floats]:
    """Output projection, and sampling: logits gathered, cast and searched, three passes over them."""
    seqs = np.array(SAMPLER_SEQS)
    num_bytes = seqs * spec.model.vocab_size * 3 * 4
    sampler = np.column_stack((seqs, 3 * gemm.shortest_s + num_bytes / (spec.gpu.hbm_bytes_per_s * PASS_SHARE)))
    return {"lm_head": gemm.times(head_product(spec.model, spec.tensor_parallel), "bf16"), "sampler": sampler}


def _decode(folder: Path, spec: InstanceSpec, gemm_of: Callable[[Path], Products]) -> Floats:
    frame = read_table(folder / f"{DECODE}.parquet")
    rows = decode_rows(frame, spec)
    zeros = np.zeros(len(rows))
    written_s = 0.0 if _writes_apart(frame) else gemm_of(folder).shortest_s
    times_s = np.maximum(rows[:, 2] - written_s, written_s)
    return np.column_stack((zeros, zeros, rows[:, 0], rows[:, 1] + 1, times_s))


def _writes_apart(frame: pl.DataFrame) -> bool:
    """Whether writing KV is a pass of its own, beside the attention that was measured."""
    version = str(frame["version"][0]) if "version" in frame.columns and len(frame) else ""
    numbers = version.split(".")[:2]
    return not all(part.isdigit() for part in numbers) or tuple(map(int, numbers)) >= WRITES_APART


def _prefill(frame: pl.DataFrame, spec: InstanceSpec) -> Floats:
    """Times of chunks behind prefixes: a whole prompt's less its prefix's, never less than the chunk's alone.

    Prompts were measured whole. Beyond the longest, attention grows with the square of the length.
    """
    rows = prefill_rows(frame, spec)
    whole = rows[rows[:, 0] == 1][:, 1:]
    longest, longest_s = whole[-1]
    launch_s = float(whole[:, 1].min())

    def prompt_s(tokens: float) -> float:
        if tokens > longest:
            return float(longest_s * (tokens / longest) ** 2)
        return float(extended(np.array([tokens]), tuple(map(tuple, whole)))[0]) if tokens else launch_s

    found = []
    for chunk, alone_s in whole[whole[:, 0] > 1]:
        for prefix in PREFIXES:
            time_s = prompt_s(prefix + chunk) - prompt_s(prefix) + launch_s
            found.append((chunk, prefix, 0.0, 0.0, max(time_s, alone_s)))
    return np.array(found)


def _allreduce(folder: Path, spec: InstanceSpec) -> Floats:
    """All-reduces of the hidden states, by tokens: the custom kernel in a CUDA graph. Message sizes are in elements."""
    import polars as pl

    frame = read_table(folder / f"{ALLREDUCE}.parquet")
    columns(frame, ALLREDUCE, ["num_gpus", "message_size", "latency"])
    own = frame.filter(pl.col("num_gpus") == spec.tensor_parallel)
    graphs = own.filter(pl.col("backend").str.contains("graph")) if "backend" in own.columns else own
    if not len(graphs):
        raise ConfigError(f"custom_allreduce_perf.parquet: no all-reduce of {spec.tensor_parallel} GPUs")
    rows = columns(graphs.sort("message_size"), ALLREDUCE, ["message_size", "latency"])
    return np.column_stack((rows[:, 0] / spec.model.hidden_size, rows[:, 1] * MILLI))
