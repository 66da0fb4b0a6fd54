"""From the models of a cluster to the figures of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from kvsim.capacity.cost import total
from kvsim.capacity.power import gpu_of
from kvsim.plan.plan import Plan
from kvsim.record.cluster_figures import ClusterTotals, PeakGpus
from kvsim.record.figures import Cost, Quantiles, SystemSummary
from kvsim.record.percentiles import Floats, weighted_distribution
from kvsim.record.plain import known
from kvsim.record.result import SystemResult, Table
from kvsim.record.summary import rows_of, tpot_s, ttft_s
from kvsim.units import SECONDS_PER_HOUR

_MILLION = 1_000_000
_JOULES_PER_KWH = 3_600_000


@dataclass(frozen=True)
class OneModel:
    """What one system did for one model."""

    told: SystemSummary
    result: SystemResult
    plan: Plan

    @property
    def length_s(self) -> float:
        """The measured window's."""
        return self.told.window_s.end - self.told.window_s.start

    @property
    def per_s(self) -> float:
        """By what a count of the window is one of a second; ``nan`` without a window."""
        return 1 / self.length_s if self.length_s > 0 else math.nan

    @property
    def weight(self) -> float:
        """What a measured request counts, so that all of a model count as many as it completes in a second.

        What is measured came after the warm-up, and need not have been completed in the window.
        """
        done = np.count_nonzero(~np.isnan(self.result.table["finish_s"][self.result.measured]))
        return self.told.requests.completed_in_window * self.per_s / done if done else math.nan

    @property
    def query_tokens_per_s(self) -> float:
        """Prompt tokens that caches are asked for, at the rate at which requests are completed in the window."""
        counts = self.told.requests
        if not counts.completed or math.isnan(self.per_s):
            return 0.0
        return self.told.cache.query_tokens / counts.completed * counts.completed_in_window * self.per_s


def totals_of(models: Sequence[OneModel], is_one_clock: bool) -> ClusterTotals:
    """One at least, all served by systems of one name. ``is_one_clock``: one moment is the same of all."""
    told = [model.told for model in models]
    costs = [each.cost for each in told]
    tokens_per_s = total(each.throughput.output_tokens_per_s for each in told)
    usd_per_s, watts = _by_second(models, lambda cost: cost.usd), _by_second(models, _joules)
    return ClusterTotals(
        name=told[0].name,
        gpus=sum(model.plan.num_gpus for model in models),
        instances=sum(instances_of(each) for each in told),
        requests=sum(each.requests.completed_in_window for each in told),
        requests_per_s=total(each.throughput.requests_per_s for each in told),
        output_tokens_per_s=tokens_per_s,
        ttft_ms=together(models, ttft_s),
        tpot_ms=together(models, tpot_s),
        goodput_requests_per_s=total(each.goodput.requests_per_s for each in told),
        goodput_share=good_share(models),
        prefix_hit_rate=hit_rate(models),
        gpu_hours=total(None if cost is None else cost.gpu_hours for cost in costs),
        usd=total(None if cost is None else cost.usd for cost in costs),
        usd_per_hour=None if usd_per_s is None else usd_per_s * SECONDS_PER_HOUR,
        usd_per_million_output_tokens=_per_token(usd_per_s, tokens_per_s, _MILLION),
        kwh=total(None if cost is None else _kwh(cost) for cost in costs),
        joules_per_output_token=_per_token(watts, tokens_per_s),
        peak_gpus=peak_gpus(models) if is_one_clock else None,
    )


def instances_of(told: SystemSummary) -> int:
    """Instances of all sides."""
    return sum(side.instances for side in told.utilisation.values())


def _kwh(cost: Cost) -> float | None:
    return None if cost.energy is None else cost.energy.kwh


def _joules(cost: Cost) -> float | None:
    kwh = _kwh(cost)
    return None if kwh is None else kwh * _JOULES_PER_KWH


def _by_second(models: Sequence[OneModel], amount: Callable[[Cost], float | None]) -> float | None:
    """What each model takes of something in its window, by the second, added up."""

    def by_second(cost: Cost | None) -> float | None:
        whole = None if cost is None else amount(cost)
        return None if cost is None or whole is None or not cost.window_s else whole / cost.window_s

    return total(by_second(model.told.cost) for model in models)


def _per_token(by_second: float | None, tokens_per_s: float | None, times: int = 1) -> float | None:
    return None if by_second is None or not tokens_per_s else by_second / tokens_per_s * times


def together(models: Sequence[OneModel], of: Callable[[Table], Floats]) -> Quantiles:
    """A latency in milliseconds over the measured requests of all, as they come side by side; ``of``: in seconds."""
    values = [of(rows_of(model.result, model.result.measured)) for model in models]
    weights = [np.full(each.size, model.weight) for each, model in zip(values, models, strict=True)]
    every, weight = np.concatenate(values), np.concatenate(weights)
    there = ~np.isnan(every) & (weight > 0)
    found = weighted_distribution(every[there], weight[there])
    return Quantiles(**{name: known(value * 1e3) for name, value in asdict(found).items() if name != "count"})


def good_share(models: Sequence[OneModel]) -> float | None:
    """Share within their own model's SLO of the requests that are judged in a second."""
    judged = good = 0.0
    for model in models:
        counts = model.told.requests
        own = counts.completed_in_window + counts.failed_in_window
        if not own or math.isnan(model.per_s):
            continue
        judged += own * model.per_s
        good += own * model.per_s * (model.told.goodput.share or 0.0)
    return good / judged if judged else None


def hit_rate(models: Sequence[OneModel]) -> float | None:
    """Share found by caches of the prompt tokens that come in a second."""
    asked = sum(model.query_tokens_per_s for model in models)
    hit = sum(model.query_tokens_per_s * (model.told.cache.prefix_hit_rate or 0.0) for model in models)
    return hit / asked if asked else None


def peak_gpus(models: Sequence[OneModel]) -> tuple[PeakGpus, ...] | None:
    """Kind by kind; ``None`` where no model scales."""
    if all(model.told.scaling is None for model in models):
        return None
    until_s = min(model.result.end_s for model in models)
    kinds: dict[str, dict[int, list[tuple[Sequence[float], Sequence[int]]]]] = {}
    for number, model in enumerate(models):
        for gpu, times_s, gpus in _timelines(model):
            kinds.setdefault(gpu, {}).setdefault(number, []).append((times_s, gpus))
    return tuple(_peak(gpu, own, until_s) for gpu, own in kinds.items())


def _timelines(model: OneModel) -> list[tuple[str, Sequence[float], Sequence[int]]]:
    """Kind, times in seconds, and GPUs that were there from each on, side by side."""
    fleet = model.result.fleet
    if fleet is None:
        return [(gpu_of(model.plan, role.role), (0.0,), (role.gpus,)) for role in model.result.roles]
    return [(gpu_of(model.plan, role.role), role.times_s, role.paid_gpus) for role in fleet.roles]


def _peak(gpu: str, models: Mapping[int, list[tuple[Sequence[float], Sequence[int]]]], until_s: float) -> PeakGpus:
    times_s = np.unique(np.concatenate([np.asarray(own) for sides in models.values() for own, _ in sides]))
    is_of_all = times_s <= until_s
    there = np.zeros(times_s.size, dtype=np.int64)
    apart, has_more_later = 0, False
    for sides in models.values():
        whole = np.sum([_at(times_s, own_s, gpus) for own_s, gpus in sides], axis=0)
        there += whole
        most = int(np.max(whole[is_of_all]))
        apart += most
        has_more_later |= int(np.max(whole)) > most
    first = int(there[is_of_all].argmax())
    return PeakGpus(
        gpu=gpu,
        together=int(there[first]),
        at_s=float(times_s[first]),
        apart=apart,
        until_s=until_s,
        has_more_later=has_more_later,
    )


def _at(times_s: np.ndarray, own_s: Sequence[float], gpus: Sequence[int]) -> np.ndarray:
    """The last of ``gpus`` at each time; none before the first of ``own_s``."""
    place = np.searchsorted(np.asarray(own_s), times_s, side="right") - 1
    return np.where(place >= 0, np.asarray(gpus, dtype=np.int64)[place], 0)
