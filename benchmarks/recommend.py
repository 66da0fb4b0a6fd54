"""``kvsim recommend`` beside an exhaustive grid: does it find what the grid finds best, and for how much of its CPU?

    python benchmarks/recommend.py "vllm serve meta-llama/Llama-3.1-70B-Instruct" --gpus 16 --workload chat --rate 20

The grid runs every candidate at full length in every replication, on the same requests as the recommendation's last
runs. What arithmetic rules out is left out of it unless ``--whole`` is given, and so are sizes above the one the
recommendation takes: these count with the CPU that a run of the others took. The winner's largest rate, which no grid
finds, is looked for with ``--search`` alone. Exits with 1 where the grid's best is
surely better than the recommendation, or the CPU is above a tenth of the whole grid's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.capacity.sources import WordSource
from kvsim.launch import read_launch_line
from kvsim.recommend.candidates import Candidate
from kvsim.recommend.question import Question
from kvsim.recommend.recommending import Recommending
from kvsim.recommend.slo import GOOD, USE
from kvsim.sim.executor import Serial
from kvsim.study.intervals import difference, interval
from kvsim.study.replication import Figures
from kvsim.workload.traffic import TraceSource
from kvsim.workload.words import word_of

_SHARE = 0.1
"""CPU of a recommendation over that of the grid, at the most."""


def main() -> int:
    args = _arguments()
    started_s = time.process_time()
    making = Recommending(_question(args), Serial())
    found = making.answer()
    own_s = time.process_time() - started_s
    taken = next(one for one in making.search.placed if one.name == found.best[0].name)
    grid = Grid(Recommending(_question(args), Serial()), found.rate_per_s, making.course.requests)
    grid.run(taken.gpus, whole=args.whole, replications=args.replications)
    report = {"question": vars(args) | {"json": None}, "recommended": taken.name, "gpus": taken.gpus, "cpu_s": own_s}
    report |= {"simulated_requests": making.course.simulated_requests} | grid.compared(taken)
    report["cpu_share"] = own_s / report["grid_cpu_s"]
    report["ok"] = bool(report["finds_best"] and report["cpu_share"] <= _SHARE)
    for name, value in report.items():
        print(f"{name}: {value}")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2, default=str) + "\n")
    return 0 if report["ok"] else 1


class Grid:
    """Every candidate, at full length, in every replication."""

    def __init__(self, making: Recommending, rate_per_s: float, requests: int) -> None:
        self._making, self._rate_per_s = making, rate_per_s
        making.course.requests = requests
        making.search.open_families()
        self._runs: dict[Candidate, list[Figures]] = {}
        self._cpu_s, self._left, self._replications = 0.0, 0, 0

    def run(self, gpus: int, *, whole: bool, replications: int | None) -> None:
        """Run what may keep the SLO on up to so many GPUs; ``whole``: everything."""
        making, course = self._making, self._making.course
        self._replications = replications or course.settings.most_replications
        chosen, left = [], 0
        for candidate in self._candidates():
            refused = making.pruner.why(candidate.family, candidate.arguments) is not None
            slow = making.pruner.too_slow(candidate, self._rate_per_s) is not None
            if whole or not (refused or slow or candidate.gpus > gpus):
                chosen.append(candidate)
            else:
                left += 1
        started_s = time.process_time()
        for replication in range(self._replications):
            for candidate, figures in course.run(chosen, self._rate_per_s, course.requests, replication).items():
                self._runs.setdefault(candidate, []).append(figures)
        self._cpu_s, self._left = time.process_time() - started_s, left

    def _candidates(self) -> Sequence[Candidate]:
        space, routes = self._making.space, self._making.routes
        return [
            candidate
            for family in space.families
            for total in family.totals(space.most_gpus)
            for counts in family.splits(total)
            for candidate in space.candidates(family, counts, routes)
        ]

    def compared(self, taken: Candidate) -> dict[str, Any]:
        """The grid's best beside what was recommended: fewer GPUs, then less of the limits."""
        share = self._making.slo.share
        means = {one: float(np.mean([run[USE] for run in runs])) for one, runs in self._runs.items()}
        goods = {one: float(np.mean([run[GOOD] for run in runs])) for one, runs in self._runs.items()}
        keeping = [one for one in means if goods[one] >= share]
        best = min(keeping or means, key=lambda one: ((one.gpus if keeping else 0), means[one], one))
        confidence = self._making.space.loaded.config.studies.confidence
        uses = {one: [run[USE] for run in self._runs[one]] for one in (best, taken)}
        apart = difference(uses[taken], uses[best], confidence)
        margin = self._making.space.settings.tie_share * means[best]
        good = interval([run[GOOD] for run in self._runs[taken]], confidence)
        fewer = bool(keeping) and best.gpus < taken.gpus
        beaten = apart.verdict(margin) == "higher" or (bool(keeping) and good.mean + good.half_width < share)
        each_s = self._cpu_s / max(len(self._runs), 1)
        return {
            "grid_best": best.name,
            "grid_best_gpus": best.gpus,
            "grid_best_use": means[best],
            "recommended_use": means[taken],
            "apart": (apart.mean, apart.half_width),
            "verdict": "same" if best == taken else "fewer GPUs" if fewer else apart.verdict(margin),
            "finds_best": best == taken or not (fewer or beaten),
            "grid_candidates": len(self._runs) + self._left,
            "grid_run": len(self._runs),
            "grid_replications": self._replications,
            "grid_run_cpu_s": self._cpu_s,
            "grid_cpu_s": self._cpu_s + each_s * self._left,
        }


def _question(args: argparse.Namespace) -> Question:
    path = Path(args.workload)
    source = TraceSource(path) if path.is_file() else WordSource(word_of(args.workload))
    ttft, tpot = args.slo.split(",")
    return Question(
        words=args.line,
        launch=read_launch_line(args.line),
        source=source,
        gpu=args.gpu,
        gpus=args.gpus,
        rate_per_s=args.rate,
        searches_rate=args.search,
        sets=(f"slo.ttft_ms={ttft}", f"slo.tpot_ms={tpot}", f"seed={args.seed}", *args.set),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("line")
    parser.add_argument("--gpu", default="h100-sxm")
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--workload", default="chat")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--slo", default="2000,50", help="TTFT and TPOT, milliseconds")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--replications", type=int, help="of the grid; default: recommend.most_replications")
    parser.add_argument("--whole", action="store_true", help="run what arithmetic rules out and larger sizes, too")
    parser.add_argument("--search", action="store_true", help="recommend with the winner's largest rate")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
