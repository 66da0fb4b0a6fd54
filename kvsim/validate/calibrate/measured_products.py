"""Times of matrix products out of AIConfigurator's ``gemm_perf`` table.

Products of shapes that were not measured take the share of the roofline's speed that their neighbours reach, linear in
the logarithms of both widths. Where that is asked for, so do weights in a type that was not measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvsim.errors import ConfigError
from kvsim.spec import WEIGHT_BYTES, GpuSpec, computed_in
from kvsim.steptime.allreduce import ACTIVATION_BYTES
from kvsim.steptime.operators import Floats
from kvsim.units import MILLI
from kvsim.validate.calibrate.measured_kernels import columns
from kvsim.validate.calibrate.shapes import Product

if TYPE_CHECKING:
    import polars as pl

DTYPES = {
    "bf16": "bfloat16",
    "fp8": "fp8",
    "int8": "sq",
    "int8_wo": "int8_wo",
    "int4": "int4_wo",
    "nvfp4": "nvfp4",
}
"""Types of kvsim, as the table spells them; others are not measured there."""
NARROW_ACTIVATIONS = ("fp8", "int8", "nvfp4")
"""Types whose activations are as narrow as their weights."""


class Products:
    """Times of matrix products, over the measured numbers of tokens."""

    def __init__(self, frame: pl.DataFrame, gpu: GpuSpec, *, like_16_bits: bool = False) -> None:
        """``like_16_bits``: weights in types that were not measured, and are computed in 16 bits, take the share of
        their roofline that 16-bit ones reach."""
        self._frame, self._gpu, self._like_16_bits = frame, gpu, like_16_bits
        self._grids: dict[str, tuple[Floats, Floats, Floats, Floats]] = {}
        self.shortest_s = float(columns(frame, "gemm_perf", ["latency"]).min()) * MILLI
        """Seconds of the shortest product there is: what any kernel takes in a CUDA graph."""

    def has(self, dtype: str) -> bool:
        """Whether any products were measured with such weights."""
        return DTYPES.get(dtype, dtype) in self._frame["gemm_dtype"]

    def times(self, product: Product, dtype: str) -> Floats:
        """Rows of (tokens, seconds). Raises ``ConfigError`` where nothing near the shape was measured."""
        tokens, outers, inners, ratio = self._grid(dtype)
        place0, share0 = _log_place(outers, product.outer)
        place1, share1 = _log_place(inners, product.inner)
        corners = ratio[:, place0 : place0 + 2, place1 : place1 + 2]
        weights = np.where(np.isnan(corners), 0.0, np.outer((1 - share0, share0), (1 - share1, share1)))
        total = weights.sum(axis=(1, 2))
        known = total > 0
        if known.sum() < 2:
            raise ConfigError(f"gemm_perf.parquet: no {dtype} products near {product.outer} x {product.inner}")
        slower = (np.nan_to_num(corners) * weights).sum(axis=(1, 2))[known] / total[known]
        tokens = tokens[known]
        return np.column_stack((tokens, slower * self._ideal_s(tokens, product.outer, product.inner, dtype)))

    def _grid(self, dtype: str) -> tuple[Floats, Floats, Floats, Floats]:
        """Axes, and how much slower than the roofline each product is; of several kernels the fastest counts."""
        if dtype in self._grids:
            return self._grids[dtype]
        import polars as pl

        is_wide = computed_in(dtype, self._gpu.capability) == "bf16"
        if self._like_16_bits and is_wide and dtype != "bf16" and not self.has(dtype):
            return self._grid("bf16")
        own = self._frame.filter(pl.col("gemm_dtype") == DTYPES.get(dtype, dtype))
        rows = columns(own, "gemm_perf", ["m", "n", "k", "latency"])
        if not len(rows):
            raise ConfigError(f"gemm_perf.parquet: no products in {DTYPES.get(dtype, dtype)}")
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
        weight_bytes = WEIGHT_BYTES[dtype]
        read_bytes = weight_bytes if dtype in NARROW_ACTIVATIONS else ACTIVATION_BYTES
        num_bytes = n * k * weight_bytes + m * k * read_bytes + m * n * ACTIVATION_BYTES
        flops_s = 2 * m * n * k / self._gpu.peak_flops(dtype)
        found: Floats = np.maximum(flops_s, num_bytes / self._gpu.hbm_bytes_per_s)
        return found


def _log_place(axis: Floats, value: float) -> tuple[int, float]:
    """The lower neighbour and the upper's weight; values beyond the axis take its end."""
    place = int(np.clip(np.searchsorted(axis, value, side="right") - 1, 0, len(axis) - 2))
    share = np.log(value / axis[place]) / np.log(axis[place + 1] / axis[place])
    return place, float(np.clip(share, 0.0, 1.0))
