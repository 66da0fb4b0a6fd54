"""AIConfigurator's tables of measured kernels; attention of heads that were not measured, from those that were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kvsim.errors import ConfigError
from kvsim.spec import InstanceSpec
from kvsim.steptime.operators import Floats
from kvsim.units import MILLI

if TYPE_CHECKING:
    import polars as pl

KV_DTYPES = {"bf16": "bfloat16", "fp8": "fp8"}
"""Types of KV, as the tables spell them; others are not measured there."""
SHARED_HEADS_SHARE = 0.78
"""Share of the bandwidth at which attention reads KV that several heads share, in blocks of 16 tokens as engines have
them: about the median of batches of 100 MB and more in LLMServingSim's profiles of vLLM's own layers on RTX PRO 6000,
68 to 84% for their middle four fifths (docs/leaderboard.md). The tables here are of blocks of 64 tokens in
a benchmark's pool, and of up to 98%."""
LEAST_WINDOW_TOKENS = 8192
"""Windows from here on are taken for none; shorter ones are taken from what was measured with them."""


def read_table(path: Path) -> pl.DataFrame:
    """Raises ``ConfigError`` where it is no Parquet file."""
    import polars as pl

    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a folder of AIConfigurator's Parquet files of one GPU is wanted")
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{path.name}: not readable as Parquet: {str(error).splitlines()[0]}") from None


def columns(frame: pl.DataFrame, name: str, keys: list[str]) -> Floats:
    """Rows of ``keys``. Raises ``ConfigError`` where one is missing."""
    missing = [key for key in keys if key not in frame.columns]
    if missing:
        raise ConfigError(f"{name}.parquet: no column '{missing[0]}'")
    found: Floats = frame.select(keys).to_numpy().astype(np.float64)
    return found


def prefill_rows(frame: pl.DataFrame, spec: InstanceSpec) -> Floats:
    """Rows of (prompts, tokens of each, seconds) of one layer, in the mean over all, on one GPU of the instance. Raises
    ``ConfigError``."""
    heads = _heads(spec)
    return _over_layers(
        spec, lambda window: _Attention(frame, "context_attention_perf", spec, "isl", window).rows(*heads)
    )


def decode_rows(frame: pl.DataFrame, spec: InstanceSpec) -> Floats:
    """Rows of (sequences, context of each, seconds) of one layer, in the mean over all, on one GPU of the instance.

    A kernel's blocks are sequences times KV heads: n sequences of r times as many heads of both kinds as were measured
    are r n sequences of those. Raises ``ConfigError``.
    """
    return _over_layers(spec, lambda window: _decode_rows(frame, spec, window))


def _over_layers(spec: InstanceSpec, read: Callable[[int], Floats]) -> Floats:
    """``read``: the rows of a layer with that window, 0 for one without."""
    whole, window, share = read(0), spec.model.sliding_window_tokens or 0, spec.model.window_share
    if not 0 < window < LEAST_WINDOW_TOKENS:
        return whole
    within = {(first, second): seconds for first, second, seconds in read(window).tolist()}
    places = [(first, second, seconds) for first, second, seconds in whole.tolist() if (first, second) in within]
    return np.array([(a, b, seconds + share * (within[a, b] - seconds)) for a, b, seconds in places])


def _decode_rows(frame: pl.DataFrame, spec: InstanceSpec, window: int) -> Floats:
    table = _Attention(frame, "generation_attention_perf", spec, "step", window)
    heads, kv_heads = _heads(spec)
    for fold in (1, 2, 3, 4, 5, 6, 8):
        if heads % fold == 0 and kv_heads % fold == 0 and table.has(kv_heads // fold):
            rows = table.rows(heads // fold, kv_heads // fold)
            rows[:, 0] /= fold
            return _uncached(rows[rows[:, 0] >= 1], spec, window)
    raise table.missing(heads, kv_heads)


def _uncached(rows: Floats, spec: InstanceSpec, window: int) -> Floats:
    """``rows`` as if no KV had been in the GPU's cache: a benchmark that runs one layer again and again finds there
    what fits, a served step never, since a layer's weights and KV drive out the one before.

    Batches whose KV fits take the time between that of one token each, which is the kernel's own, and that of the
    shortest context that does not fit, if that is longer. Contexts longer than were measured take in addition what
    reading the rest does at the GPU's bandwidth. Heads that share KV read it at ``SHARED_HEADS_SHARE`` of that. Within
    a ``window`` no more than that is read.
    """
    model, degree, most = spec.model, spec.tensor_parallel, float(window or np.inf)
    token_bytes = 2 * max(1, model.num_kv_heads // degree) * model.head_dim * spec.kv_value_bytes
    found, contexts = [], np.unique(rows[:, 1])
    for seqs in np.unique(rows[:, 0]):
        own = rows[rows[:, 0] == seqs]
        own = own[np.argsort(own[:, 1])]
        beyond = own[np.minimum(own[:, 1], most) * seqs * token_bytes > spec.gpu.cache_bytes]
        if len(beyond) and spec.gpu.cache_bytes:
            ends = np.array((own[0], beyond[0]))
            line = np.interp(own[:, 1], ends[:, 1], ends[:, 2])
            own[:, 2] = np.where(own[:, 1] < beyond[0, 1], np.maximum(own[:, 2], line), own[:, 2])
        _, longest, longest_s = own[-1]
        rest = contexts[contexts > longest]
        more = np.maximum(np.minimum(rest, most) - longest, 0.0)
        rest_s = longest_s + more * seqs * token_bytes / spec.gpu.hbm_bytes_per_s
        found += [own, np.column_stack((np.full(len(rest), seqs), rest, rest_s))]
    whole = np.concatenate(found)
    if model.num_kv_heads < model.num_heads:
        bytes_per_s = SHARED_HEADS_SHARE * spec.gpu.hbm_bytes_per_s
        served_s = whole[:, 2].min() + whole[:, 0] * np.minimum(whole[:, 1], most) * token_bytes / bytes_per_s
        whole[:, 2] = np.maximum(whole[:, 2], served_s)
    return whole


def _heads(spec: InstanceSpec) -> tuple[int, int]:
    degree, model = spec.tensor_parallel, spec.model
    return model.num_heads // degree, max(1, model.num_kv_heads // degree)


class _Attention:
    """One kind of attention kernels, of the instance's head size and types; the fastest kernel counts."""

    def __init__(self, frame: pl.DataFrame, name: str, spec: InstanceSpec, length: str, window: int) -> None:
        import polars as pl

        self._name, self._head_dim, self._window = name, spec.model.head_dim, window
        self._kv_dtype = KV_DTYPES.get(spec.kv_dtype, "bfloat16")
        self._keys = ["batch_size", length]
        columns(frame, name, ["num_heads", "num_key_value_heads", "head_dim", *self._keys, "latency"])
        own = frame.filter(pl.col("head_dim") == self._head_dim)
        if "window_size" in frame.columns:
            own = own.filter(pl.col("window_size") == window)
        elif window:
            own = own.clear()
        if "kv_cache_dtype" in frame.columns:
            own = own.filter(pl.col("kv_cache_dtype") == self._kv_dtype)
        self._own = own

    def has(self, kv_heads: int) -> bool:
        """Whether anything was measured with so many."""
        return kv_heads in self._own["num_key_value_heads"]

    def rows(self, heads: int, kv_heads: int) -> Floats:
        """Heads between two measured numbers take times between theirs."""
        import polars as pl

        of_kv = self._own.filter(pl.col("num_key_value_heads") == kv_heads)
        known = sorted(of_kv["num_heads"].unique().to_list())
        below = max((each for each in known if each <= heads), default=None)
        above = min((each for each in known if each >= heads), default=None)
        if below is None or above is None:
            raise self.missing(heads, kv_heads)
        low = self._measured(of_kv.filter(pl.col("num_heads") == below))
        if below == above:
            return low
        high = self._measured(of_kv.filter(pl.col("num_heads") == above))
        at_high = {(first, second): seconds for first, second, seconds in high}
        share = (heads - below) / (above - below)
        both = [(a, b, t + share * (at_high[a, b] - t)) for a, b, t in low if (a, b) in at_high]
        return np.array(both)

    def _measured(self, rows: pl.DataFrame) -> Floats:
        import polars as pl

        fastest = rows.group_by(self._keys).agg(pl.col("latency").min()).sort(self._keys)
        found = columns(fastest, self._name, [*self._keys, "latency"])
        found[:, -1] *= MILLI
        return found

    def missing(self, heads: int, kv_heads: int) -> ConfigError:
        what = f"{heads} heads on {kv_heads} KV heads of {self._head_dim} in {self._kv_dtype}"
        what += f" within {self._window} tokens" if self._window else ""
        return ConfigError(f"{self._name}.parquet: no attention of {what}")
