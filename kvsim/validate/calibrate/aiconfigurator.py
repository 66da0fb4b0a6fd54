"""Operator times from AIConfigurator's tables of measured kernels (Apache-2.0), for one model and degree.

The tables are Parquet files of one GPU and one engine version: ``gemm_perf``, ``context_attention_perf``,
``generation_attention_perf``, ``custom_allreduce_perf``. Products of shapes that were not measured take the share of
the roofline's speed that their neighbours reach, linear in the logarithms of both widths. Memory-bound passes are not
in the tables: ``PASS_S`` and bytes over ``PASS_SHARE`` of the bandwidth, as the tables' ``system.yaml`` has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kvsim.errors import ConfigError
from kvsim.spec import GpuSpec, InstanceSpec
from kvsim.steptime.curves.coefficients import extended
from kvsim.steptime.operators import Floats, Operators
from kvsim.units import MILLI
from kvsim.validate.calibrate.operators import MeasuredOperators
from kvsim.validate.calibrate.shapes import Product, head_product, layer_products, pass_values

if TYPE_CHECKING:
    import polars as pl

METHOD = "kernels measured one by one; memory-bound passes by arithmetic"
PASS_S = 3e-6
PASS_SHARE = 0.8
ACTIVATION_BYTES = 2
FILES = ("gemm_perf", "context_attention_perf", "generation_attention_perf", "custom_allreduce_perf")
DTYPES = {"bf16": "bfloat16", "fp8": "fp8"}
"""Types of kvsim, as the tables spell them; others are not measured there."""
PREFIXES = (0.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0)
SAMPLER_SEQS = (1.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


def read_folder(folder: Path, spec: InstanceSpec) -> MeasuredOperators:
    """Raises ``ConfigError`` (file, what is missing) where the tables do not cover the instance."""
    meta = {"gpu": spec.gpu.name, "model": spec.model.name}
    licence = {"licence": "AIConfigurator, Apache-2.0"}
    return MeasuredOperators(_operators(folder, spec), meta, _files(folder, spec), METHOD, licence)


def _operators(folder: Path, spec: InstanceSpec) -> Operators:
    if spec.weight_dtype not in DTYPES:
        raise ConfigError(f"weight_dtype = '{spec.weight_dtype}': the tables hold {' and '.join(DTYPES)}")
    if spec.model.is_moe or spec.model.is_mla:
        raise ConfigError(f"model {spec.model.name}: only dense models with ordinary KV heads are supported here")
    frames = {path.stem: _frame(path) for path in _files(folder, spec)}
    gemm = _Gemm(frames["gemm_perf"], spec.gpu)
    dense = _dense(gemm, spec)
    if spec.tensor_parallel > 1:
        dense["allreduce"] = _allreduce(frames["custom_allreduce_perf"], spec)
    attention = np.concatenate(
        (
            _prefill(frames["context_attention_perf"], spec),
            _decode(frames["generation_attention_perf"], spec),
        )
    )
    head = gemm.times(head_product(spec.model, spec.tensor_parallel), "bf16")
    return Operators(dense=dense, per_sequence={"lm_head": head, "sampler": _sampler(spec)}, attention=attention)


def _files(folder: Path, spec: InstanceSpec) -> tuple[Path, ...]:
    """Table files that the instance needs."""
    return tuple(folder / f"{name}.parquet" for name in FILES[: 4 if spec.tensor_parallel > 1 else 3])


def _frame(path: Path) -> pl.DataFrame:
    import polars as pl

    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a folder of AIConfigurator's Parquet files of one GPU is wanted")
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{path.name}: not readable as Parquet: {str(error).splitlines()[0]}") from None


def _columns(frame: pl.DataFrame, name: str, keys: list[str]) -> Floats:
    missing = [key for key in keys if key not in frame.columns]
    if missing:
        raise ConfigError(f"{name}.parquet: no column '{missing[0]}'")
    found: Floats = frame.select(keys).to_numpy().astype(np.float64)
    return found


class _Gemm:
    """Times of matrix products, over the measured numbers of tokens."""

    def __init__(self, frame: pl.DataFrame, gpu: GpuSpec) -> None:
        self._frame, self._gpu = frame, gpu
        self._grids: dict[str, tuple[Floats, Floats, Floats, Floats]] = {}

    def times(self, product: Product, dtype: str) -> Floats:
        """Rows of (tokens, seconds)."""
        tokens, outers, inners, ratio = self._grid(dtype)
        place0, share0 = _log_place(outers, product.outer)
        place1, share1 = _log_place(inners, product.inner)
        corners = ratio[:, place0 : place0 + 2, place1 : place1 + 2]
        weights = np.outer((1 - share0, share0), (1 - share1, share1))
        missing = np.isnan(corners)
        weighted = np.where(missing, 0.0, corners) * weights
        slower = weighted.sum(axis=(1, 2)) / np.where(missing, 0.0, weights).sum(axis=(1, 2))
        return np.column_stack((tokens, slower * self._ideal_s(tokens, product.outer, product.inner, dtype)))

    def _grid(self, dtype: str) -> tuple[Floats, Floats, Floats, Floats]:
        """Axes, and how much slower than the roofline each product is; of several kernels the fastest counts."""
        if dtype in self._grids:
            return self._grids[dtype]
        import polars as pl

        own = self._frame.filter(pl.col("gemm_dtype") == DTYPES[dtype])
        rows = _columns(own, "gemm_perf", ["m", "n", "k", "latency"])
        if not len(rows):
            raise ConfigError(f"gemm_perf.parquet: no products in {DTYPES[dtype]}")
        tokens, outers, inners = (np.unique(rows[:, axis]) for axis in range(3))
        grid = np.full((len(tokens), len(outers), len(inners)), np.inf)
        places = tuple(np.searchsorted(axis, rows[:, at]) for at, axis in enumerate((tokens, outers, inners)))
        np.minimum.at(grid, places, rows[:, 3] * MILLI)
        m, n, k = np.meshgrid(tokens, outers, inners, indexing="ij")
        ratio = np.where(np.isfinite(grid), grid, np.nan) / self._ideal_s(m, n, k, dtype)
        self._grids[dtype] = tokens, outers, inners, ratio
        return self._grids[dtype]

    def _ideal_s(self, m: Floats, n: Floats | float, k: Floats | float, dtype: str) -> Floats:
        """The roofline: FLOPs over the peak, or bytes over the bandwidth."""
        weight_bytes = 1 if dtype == "fp8" else ACTIVATION_BYTES
        num_bytes = n * k * weight_bytes + m * k * weight_bytes + m * n * ACTIVATION_BYTES
        flops_s = 2 * m * n * k / self._gpu.peak_flops(dtype)
        found: Floats = np.maximum(flops_s, num_bytes / self._gpu.hbm_bytes_per_s)
        return found


def _log_place(axis: Floats, value: float) -> tuple[int, float]:
    """The lower neighbour and the upper's weight; values beyond the axis take its end."""
    place = int(np.clip(np.searchsorted(axis, value, side="right") - 1, 0, len(axis) - 2))
    share = np.log(value / axis[place]) / np.log(axis[place + 1] / axis[place])
    return place, float(np.clip(share, 0.0, 1.0))


def _dense(gemm: _Gemm, spec: InstanceSpec) -> dict[str, Floats]:
    model, degree = spec.model, spec.tensor_parallel
    dense = {product.name: gemm.times(product, spec.weight_dtype) for product in layer_products(model, degree)}
    tokens = dense["qkv_proj"][:, 0]
    bytes_per_s = spec.gpu.hbm_bytes_per_s * PASS_SHARE
    for name, values in pass_values(model, degree).items():
        dense[name] = np.column_stack((tokens, PASS_S + tokens * (values * ACTIVATION_BYTES / bytes_per_s)))
    return dense


def _sampler(spec: InstanceSpec) -> Floats:
    """Logits gathered, cast and searched: three passes over them."""
    seqs = np.array(SAMPLER_SEQS)
    num_bytes = seqs * spec.model.vocab_size * 3 * 4
    return np.column_stack((seqs, 3 * PASS_S + num_bytes / (spec.gpu.hbm_bytes_per_s * PASS_SHARE)))


def _heads(spec: InstanceSpec) -> tuple[int, int]:
    degree, model = spec.tensor_parallel, spec.model
    return model.num_heads // degree, max(1, model.num_kv_heads // degree)


def _attention(frame: pl.DataFrame, name: str, spec: InstanceSpec, keys: list[str]) -> Floats:
    """Rows of ``keys`` and seconds for the spec's heads; the fastest kernel counts."""
    import polars as pl

    heads, kv_heads = _heads(spec)
    kv_dtype = DTYPES.get(spec.kv_dtype, "bfloat16")
    wanted = {
        "num_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": spec.model.head_dim,
        "window_size": 0,
        "kv_cache_dtype": kv_dtype,
    }
    _columns(frame, name, [key for key in wanted if key != "kv_cache_dtype"])
    own = frame.filter(*(pl.col(key) == value for key, value in wanted.items()))
    if not len(own):
        raise ConfigError(
            f"{name}.parquet: no attention of {heads} heads on {kv_heads} KV heads of {spec.model.head_dim} "
            f"in {kv_dtype}"
        )
    rows = _columns(own.group_by(keys).agg(pl.col("latency").min()).sort(keys), name, [*keys, "latency"])
    rows[:, -1] *= MILLI
    return rows


def _decode(frame: pl.DataFrame, spec: InstanceSpec) -> Floats:
    rows = _attention(frame, "generation_attention_perf", spec, ["batch_size", "step"])
    zeros = np.zeros(len(rows))
    return np.column_stack((zeros, zeros, rows[:, 0], rows[:, 1] + 1, rows[:, 2]))


def _prefill(frame: pl.DataFrame, spec: InstanceSpec) -> Floats:
    """Times of chunks behind prefixes: a whole prompt's less its prefix's, never less than the chunk's alone.

    Prompts were measured whole. Beyond the longest, attention grows with the square of the length.
    """
    rows = _attention(frame, "context_attention_perf", spec, ["batch_size", "isl"])
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


def _allreduce(frame: pl.DataFrame, spec: InstanceSpec) -> Floats:
    """All-reduces of the hidden states, by tokens: the custom kernel in a CUDA graph. Message sizes are in elements."""
    import polars as pl

    _columns(frame, "custom_allreduce_perf", ["num_gpus", "message_size", "latency"])
    own = frame.filter(pl.col("num_gpus") == spec.tensor_parallel)
    graphs = own.filter(pl.col("backend").str.contains("graph")) if "backend" in own.columns else own
    if not len(graphs):
        raise ConfigError(f"custom_allreduce_perf.parquet: no all-reduce of {spec.tensor_parallel} GPUs")
    rows = _columns(graphs.sort("message_size"), "custom_allreduce_perf", ["message_size", "latency"])
    return np.column_stack((rows[:, 0] / spec.model.hidden_size, rows[:, 1] * MILLI))
