"""How often intervals of paired differences cover what is there: python -m benchmarks.lab_coverage.

Repeats: both phases of a repeat share a factor of the machine and have one each; requests are lognormal, so that they
are skewed to the right. Requests: pairs of one repeat, of which both have what their prompt makes of them. Candidates:
Student's interval, bootstraps of as many draws, and from the lower to the higher end of Student's and the bootstrap-t.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

from kvsim.lab.kv.analysis.bootstrap import student

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
CONFIDENCE, RUNS, DRAWS = 0.95, 1_000, 499
REPEATS, EFFECTS = (5, 10, 20), (1.0, 0.5, 0.1)
"""``1.0``: nothing differs; else what the second phase takes of the first's time."""
TRUE_RUNS = 40_000
Bounds = tuple[Floats, Floats]


def repeats(draws: np.random.Generator, runs: int, count: int, effect: float, sigma: float, tail: bool) -> Floats:
    """Differences of the phases' means, or p95, of 16 requests; a row a design."""
    machine = draws.lognormal(0, 0.1, (runs, count, 1))
    found = []
    for share in (1.0, effect):
        phase = draws.lognormal(0, 0.05, (runs, count, 1))
        times = 100 * share * machine * phase * draws.lognormal(-sigma * sigma / 2, sigma, (runs, count, 16))
        found.append(np.quantile(times, 0.95, axis=2) if tail else times.mean(axis=2))
    return np.asarray(found[1] - found[0])


def requests(draws: np.random.Generator, runs: int, count: int, effect: float, sigma: float, tail: bool) -> Floats:
    """Differences of pairs of requests; ``tail`` has no meaning here."""
    prompt = draws.lognormal(0, sigma, (runs, count))
    first, second = (share * draws.lognormal(0, 0.2, (runs, count)) for share in (1.0, effect))
    return np.asarray(100 * prompt * (second - first))


def candidates(values: Floats, draws: np.random.Generator) -> dict[str, Bounds]:
    """Bounds by method."""
    count = values.shape[1]
    alone = [student(list(row), CONFIDENCE) or (math.nan, math.nan) for row in values]
    mean, error = values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(count)
    samples = values[:, draws.integers(0, count, (DRAWS, count))]
    means = samples.mean(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = (means - mean[:, None]) / (samples.std(axis=2, ddof=1) / math.sqrt(count))
    scores[~np.isfinite(scores)] = np.nan
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.nanquantile(scores, tails, axis=1)
    even = np.nanquantile(np.abs(scores), CONFIDENCE, axis=1)
    first, last = np.array([one for one, _ in alone]), np.array([other for _, other in alone])
    return {
        "Student": (first, last),
        "joined": (np.minimum(first, mean - high * error), np.maximum(last, mean - low * error)),
        "percentile": tuple(np.quantile(means, tails, axis=1)),  # type: ignore[dict-item]
        "BCa": _accelerated(values, means, mean, tails),
        "bootstrap-t": (mean - high * error, mean - low * error),
        "symmetric bootstrap-t": (mean - even * error, mean + even * error),
    }


def _accelerated(values: Floats, means: Floats, mean: Floats, tails: list[float]) -> Bounds:
    off = mean[:, None] - values
    pull = (off**3).sum(axis=1) / (6 * ((off**2).sum(axis=1)) ** 1.5)
    shift = ndtri(np.clip((means < mean[:, None]).mean(axis=1), 1e-3, 1 - 1e-3))
    ends = []
    for tail in tails:
        z = shift + ndtri(tail)
        shares = ndtr(shift + z / (1 - pull * z))
        ends.append(np.array([np.quantile(row, share) for row, share in zip(means, shares, strict=True)]))
    return ends[0], ends[1]


def table(
    title: str, draw: Callable[..., Floats], counts: tuple[int, ...], cases: dict[str, tuple[float, bool]]
) -> None:
    """Print the share of designs that each method covers, in percent, and its median width."""
    print(f"\n{title}")
    for name, (sigma, tail) in cases.items():
        for effect in EFFECTS:
            for count in counts:
                draws = np.random.default_rng([count, round(100 * effect), round(100 * sigma), tail])
                true = 0.0 if effect == 1 else float(draw(draws, TRUE_RUNS, count, effect, sigma, tail).mean())
                found: dict[str, list[tuple[float, float]]] = {}
                for _ in range(RUNS // 100):
                    for method, (low, high) in candidates(draw(draws, 100, count, effect, sigma, tail), draws).items():
                        found.setdefault(method, []).extend(
                            zip((low <= true) & (true <= high), high - low, strict=True)
                        )
                cells = [
                    f"{method} {100 * np.mean([hit for hit, _ in each]):.1f} ({np.median([w for _, w in each]):.0f} ms)"
                    for method, each in found.items()
                ]
                print(f"{name}, effect x{effect:g}, n={count}: {', '.join(cells)}", flush=True)


def main() -> None:
    """All tables."""
    cases = {"mean, sigma 0.5": (0.5, False), "mean, sigma 1": (1.0, False), "p95, sigma 1": (1.0, True)}
    table("Repeats of 16 requests", repeats, REPEATS, cases)
    table("Pairs of requests of one repeat", requests, (16, 64), {"sigma 0.5": (0.5, False), "sigma 1": (1.0, False)})


if __name__ == "__main__":
    main()
