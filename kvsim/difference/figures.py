"""Figures of runs, and what may be said of all their differences together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvsim.config import Config
from kvsim.record.labels import COMPONENT_LABELS
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.record.windows import measured_alike
from kvsim.study.intervals import Interval, Verdict, difference
from kvsim.units import MILLI

Figures = dict[str, float]

_ROUNDING = 1e-9
"""Figures that are this near, relatively, differ by rounding alone."""

LATENCIES = ("ttft", "tpot", "itl", "e2e")
QUANTILES = ("mean", "p50", "p90", "p99")
RATES = ("requests_per_s", "output_tokens_per_s", "goodput_requests_per_s")
SHARES = ("good_share", "prefix_hit_rate")
PARTS = tuple(COMPONENT_LABELS)
"""Parts of the mean TTFT, in milliseconds; they sum to it."""


@dataclass(frozen=True, kw_only=True)
class FigureDifference:
    """One figure of both sides: means over the runs, and the mean of the differences from pair to pair."""

    figure: str
    a: float | None
    b: float | None
    difference: float | None
    """``b`` less ``a``."""
    half_width: float | None
    """Half of the interval of the difference, which holds together with those of all others; ``None``: one run."""
    verdict: Verdict

    @property
    def moved(self) -> bool:
        return self.verdict in ("lower", "higher")

    @property
    def share(self) -> float | None:
        """The difference as a share of ``a``."""
        return self.difference / self.a if self.a and self.difference is not None else None


def alike(results: Sequence[SystemResult], config: Config) -> list[SystemResult]:
    """``results`` of one run's requests, measured over one window."""
    return measured_alike(results, config.load.unsteady_factor, {})


def figures_of(result: SystemResult, config: Config, gpus: int) -> Figures:
    """All figures of a run; nan where nothing was measured. The SLO is that of ``config``."""
    summary = summarise(result, slo_ttft_s=config.slo.ttft_ms * MILLI, slo_tpot_s=config.slo.tpot_ms * MILLI, gpus=gpus)
    found: dict[str, float | None] = {
        f"{latency}_{quantile}_ms": getattr(getattr(summary, f"{latency}_ms"), quantile)
        for latency in LATENCIES
        for quantile in QUANTILES
    }
    found |= {
        "requests_per_s": summary.throughput.requests_per_s,
        "output_tokens_per_s": summary.throughput.output_tokens_per_s,
        "goodput_requests_per_s": summary.goodput.requests_per_s,
        "good_share": summary.goodput.share,
        "prefix_hit_rate": summary.cache.prefix_hit_rate,
    }
    found |= {name: summary.attribution_ms.mean[name] for name in PARTS}
    return {name: math.nan if value is None else value for name, value in found.items()}


def differences(
    a: Sequence[Figures], b: Sequence[Figures], confidence: float, tie_share: float, asked: int = 1
) -> dict[str, FigureDifference]:
    """``b`` less ``a``, run by run, of every figure.

    All intervals together hold with ``confidence``: each is wider for there being others (Bonferroni's rule, over the
    figures that differ at all), so that of two cases that do not differ any figure is called higher or lower with a
    chance of ``1 - confidence`` at the most. ``asked``: times as many, where several such comparisons are told
    together. ``tie_share``: as in studies.
    """
    names = [name for name in a[0] if not all(math.isnan(one[name]) for one in (*a, *b))]
    pairs = list(zip(a, b, strict=True))
    differing = sum(
        any(not math.isclose(one[name], other[name], rel_tol=_ROUNDING) for one, other in pairs) for name in names
    )
    each = 1 - (1 - confidence) / max(1, differing * asked)
    return {name: _found(name, a, b, _apart(name, a, b, each), tie_share) for name in names}


def _apart(name: str, a: Sequence[Figures], b: Sequence[Figures], confidence: float) -> Interval:
    return difference([one[name] for one in b], [one[name] for one in a], confidence)


def _found(
    name: str, a: Sequence[Figures], b: Sequence[Figures], apart: Interval, tie_share: float
) -> FigureDifference:
    means = [math.fsum(one[name] for one in side) / len(side) for side in (a, b)]
    margin = tie_share if name in SHARES else tie_share * abs(means[0])
    return FigureDifference(
        figure=name,
        a=_known(means[0]),
        b=_known(means[1]),
        difference=_known(apart.mean),
        half_width=_known(apart.half_width),
        verdict=apart.verdict(0.0 if math.isnan(margin) else margin),
    )


def of_kind(found: Mapping[str, FigureDifference], names: Sequence[str]) -> tuple[FigureDifference, ...]:
    """The figures of ``names`` that were measured, in that order."""
    return tuple(found[name] for name in names if name in found)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
