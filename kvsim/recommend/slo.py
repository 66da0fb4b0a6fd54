"""What makes a request a good one, and how near a run comes to the limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim.record.percentiles import Floats
from kvsim.record.result import COMPONENTS, SystemResult, Table
from kvsim.record.summary import e2e_s, in_window, p99_rows, rows_of, tpot_s, ttft_s
from kvsim.study.replication import Figures
from kvsim.units import MILLI

USE, GOOD, HIT, THROUGHPUT = "slo_use", "good_share", "prefix_hit_rate", "output_tokens_per_s"
POWER = "gpu_power_w"
"""A GPU's in the mean over the run's window; no figure of it where that is not known."""
NEAR = 2.0
"""What takes more of the limits is taken to be overloaded: all the throughput there is, and no end of latency."""
LIMITS = ("TTFT", "TPOT", "E2E")


@dataclass(frozen=True, kw_only=True)
class Slo:
    """Limits of a good request, and the share of requests that must be good; limits hold for each request, TPOT as the
    mean over its answer.
    """

    ttft_ms: float
    tpot_ms: float
    e2e_ms: float | None = None
    share: float

    @property
    def words(self) -> str:
        """The limits as one reads them."""
        e2e = "" if self.e2e_ms is None else f", E2E <= {self.e2e_ms:g} ms"
        return f"TTFT <= {self.ttft_ms:g} ms, mean TPOT <= {self.tpot_ms:g} ms{e2e} for {self.share:.4g} of requests"

    @property
    def limits_ms(self) -> dict[str, float]:
        """By name, milliseconds; E2E where it has a limit."""
        found = {"TTFT": self.ttft_ms, "TPOT": self.tpot_ms}
        return found if self.e2e_ms is None else found | {"E2E": self.e2e_ms}

    def uses(self, ttfts_s: Floats, tpots_s: Floats, e2es_s: Floats) -> dict[str, Floats]:
        """What each request takes of each limit, 1 being all of it; an answer of one token takes no TPOT."""
        found = {
            "TTFT": ttfts_s / (self.ttft_ms * MILLI),
            "TPOT": np.nan_to_num(tpots_s, nan=0.0) / (self.tpot_ms * MILLI),
        }
        return found if self.e2e_ms is None else found | {"E2E": e2es_s / (self.e2e_ms * MILLI)}

    def judge(self, result: SystemResult) -> Figures:
        """What a run shows, over the requests that count.

        ``slo_use``: the share of its limits that a request takes, at the percentile of ``share``: at most 1 exactly
        where that share of requests is good. Requests that fit no instance take an infinite share. ``use_TTFT`` and so
        on are those percentiles of each limit alone.
        """
        table = rows_of(result, result.measured)
        ttfts, tpots, e2es = ttft_s(table), tpot_s(table), e2e_s(table)
        failed = int((result.failed_arrival_s >= result.first_measured_s).sum())
        uses = {name: np.append(use, np.full(failed, np.inf)) for name, use in self.uses(ttfts, tpots, e2es).items()}
        worst = np.max(list(uses.values()), axis=0)
        cache, use = result.cache, self._percentile(worst)
        found = {
            USE: use,
            GOOD: float((worst <= 1).mean()) if len(worst) else 0.0,
            HIT: cache.hit_tokens / cache.query_tokens if cache.query_tokens else 0.0,
            "ttft_mean_ms": _mean(ttfts) / MILLI,
            "tpot_mean_ms": _mean(tpots[~np.isnan(tpots)]) / MILLI,
            "e2e_mean_ms": _mean(e2es) / MILLI,
            THROUGHPUT: _coming(table) if use <= NEAR else _completing(result),
        }
        found |= {f"use_{name}": self._percentile(use) for name, use in uses.items()}
        found |= {f"good_{name}": float((use <= 1).mean()) if len(use) else 0.0 for name, use in uses.items()}
        return found | _late_parts(result, ttfts)

    def _percentile(self, values: Floats) -> float:
        """The smallest value that ``share`` of them do not exceed."""
        return float(np.quantile(values, self.share, method="inverted_cdf")) if len(values) else np.inf


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _coming(table: Table) -> float:
    """Output tokens a second of what comes: of a run that is not overloaded as many complete, sooner or later."""
    arrivals = np.sort(table["arrival_s"])
    span_s = float(arrivals[-1] - arrivals[0]) if len(arrivals) > 1 else 0.0
    return float(table["output_tokens"].mean()) * (len(arrivals) - 1) / span_s if span_s > 0 else 0.0


def _completing(result: SystemResult) -> float:
    """Output tokens a second of what completes in the run's window."""
    start_s, end_s = result.window_s
    tokens = float(result.table["output_tokens"][in_window(result, result.window_s)].sum())
    return tokens / (end_s - start_s) if end_s > start_s else 0.0


def _late_parts(result: SystemResult, ttfts_s: Floats) -> Figures:
    """The parts of TTFT of a request at its p99, milliseconds."""
    rows = p99_rows(ttfts_s)
    return {f"late_{name}": _mean(result.table[name][result.measured][rows]) / MILLI for name in COMPONENTS}
