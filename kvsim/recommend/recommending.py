"""The whole way: candidates, arithmetic, the race, the largest rate of the winner, and what to paste."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from kvsim.capacity.cost import per, price_of
from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.sources import Source, source_of
from kvsim.config.disturbed import disturbances
from kvsim.errors import CapacityError, ConfigError
from kvsim.plan.mode import PREDICT
from kvsim.plan.plan import Plan
from kvsim.plan.unmodelled import left_out
from kvsim.recommend.answer import AskedFor, Looked, Place, Recommendation
from kvsim.recommend.bounds import Asked
from kvsim.recommend.candidates import Candidate
from kvsim.recommend.course import Course
from kvsim.recommend.pareto import points_of
from kvsim.recommend.paste import configuration_of
from kvsim.recommend.prune import Pruner
from kvsim.recommend.question import Question
from kvsim.recommend.race import Ranked
from kvsim.recommend.reason import conclude, why
from kvsim.recommend.search import Search, Searched
from kvsim.recommend.slo import GOOD, HIT, LIMITS, POWER, THROUGHPUT, USE, Slo
from kvsim.recommend.space import Space
from kvsim.record.labels import counted, number
from kvsim.record.plain import plain
from kvsim.report.calibration import calibration_of
from kvsim.sim.executor import Executor
from kvsim.study.replication import Figures
from kvsim.units import SECONDS_PER_HOUR
from kvsim.workload.hits import hit_rate

_LEAST_HITS = 0.01
"""Share of prompt tokens seen before, from which on it may matter where prompts go."""
_STREAM = 11
"""Which of the seed's children the runs of a recommendation draw from."""
_SHOWN = 6
_SHORT = 1.5
"""Runs that are so many times as short as they are wanted are warned of."""


def recommend(question: Question, executor: Executor) -> Recommendation:
    """The best deployments for ``question``, simulated by ``executor``. The same seed gives the same answer.

    Raises a ``KvsimError``, one line: for what cannot be built or read; where nothing fits the GPUs, with what comes
    nearest; where no deployment can keep the SLO, with what the least is that requests take.
    """
    return Recommending(question, executor).answer()


class Recommending:
    """What a recommendation is made of, made in order."""

    def __init__(self, question: Question, executor: Executor) -> None:
        self._question = question
        self.space = Space(question)
        self.slo: Slo = question.slo(self.space.loaded)
        config = self.space.loaded.config
        for key in disturbances(config):
            raise ConfigError(f"{key}: recommend compares what nothing happens to, for clients that wait; leave it out")
        seed = int(np.random.SeedSequence(config.seed).spawn(_STREAM + 1)[_STREAM].generate_state(1)[0])
        first = self.space.plan(self.space.smallest(self.space.families[0]))
        self._first = first
        self.source: Source = source_of(PREDICT, first, question.source, None, config.seed)
        self.course = Course(self.space, self.source.traffic, self.slo, executor, seed)
        self._rate_per_s = question.rate_per_s or self._arithmetic_rate()
        self.course.requests = self.course.length(self._largest(), self._rate_per_s)
        asked = self.course.workload(self._rate_per_s, self.course.requests, 0)
        self.routes = first.prefill_settings.enable_prefix_caching and hit_rate(asked) > _LEAST_HITS
        self.pruner = Pruner(self.space, Asked.of(asked, first), self.slo)
        self.search = Search(self.course, self.pruner, self.routes, question.searches_rate)

    def answer(self) -> Recommendation:
        """Search, then say what was found."""
        self._rule_out()
        goal = self._question.goal
        if goal == "rate":
            found = self.search.largest_rate(self._rate_per_s)
        elif goal == "gpus":
            found = self.search.fewest(self._rate_per_s)
        else:
            found = self.search.nearest(self._rate_per_s)
        return self._told(found)

    def _largest(self) -> list[Plan]:
        """The largest unified systems that fit; where none does, the first kind."""
        found = []
        for family in self.space.families:
            if not family.is_pd:
                total = family.totals(self.space.most_gpus)[-1]
                arguments = self.space.arguments(family, routes=False)[0]
                found.append(self.space.plan(Candidate(family, next(family.splits(total)), arguments)))
        return found or [self._first]

    def _arithmetic_rate(self) -> float:
        """Half of what the fastest unified system serves at the most: where to begin to look for a rate."""
        population = self.source.traffic.population()
        return max(maximum_rate(plan, demand_of(population, plan), "unified") for plan in self._largest()) / 2

    def _rule_out(self) -> None:
        """Count what arithmetic rules out. Raises ``CapacityError`` where that is everything."""
        space, pruner = self.space, self.pruner
        rate_per_s = self._question.rate_per_s
        for dropped in space.dropped:
            pruner.note(dropped.kind, f"{dropped.family.system} {dropped.family.degrees}: {dropped.why}")
        possible, most = 0, (0.0, "")
        for family in space.families:
            for total in family.totals(space.most_gpus):
                for counts in family.splits(total):
                    for candidate in space.candidates(family, counts, self.routes):
                        found = pruner.why(family, candidate.arguments)
                        if found is not None:
                            pruner.note(*found)
                            continue
                        most = max(most, (pruner.most_per_s(candidate), candidate.name))
                        slow = None if rate_per_s is None else pruner.too_slow(candidate, rate_per_s)
                        if slow is None:
                            possible += 1
                        else:
                            pruner.note("rate", slow)
        self.search.open_families()
        if not possible:
            raise CapacityError(self._impossible(most))

    def _impossible(self, most: tuple[float, str]) -> str:
        floors, limits = self.pruner.floors(), self.slo.limits_ms
        none = f"no deployment of up to {counted(self.space.most_gpus, 'GPU')}"
        if most[0] > 0 and self._question.rate_per_s is not None:
            return (
                f"{none} serves {self._question.rate_per_s:g} requests/s "
                f"within the SLO; the nearest, {most[1]}, serves {number(most[0])} at the very most"
            )
        if all(floors[name] <= limits[name] for name in floors) and "KV room" in self.pruner.examples:
            short = f"{self.pruner.examples['KV room']} model.max_model_len and the KV cache"
            return f"{none} can keep {self.slo.words}: of {short}; allowed: a lower share, or shorter requests"
        least = ", ".join(f"{name} {number(least_ms)} ms" for name, least_ms in floors.items())
        return (
            f"{none} can keep {self.slo.words}: with one request alone they are at least {least}; "
            "allowed: limits above these, and requests that fit"
        )

    def _told(self, found: Searched) -> Recommendation:
        question, space, best = self._question, self.space, found.ranked
        winner = best.places[0]
        certain = best.is_certain
        loaded = space.loaded_of(winner)
        calibration = calibration_of(loaded, space.plan(winner))
        is_pd = winner.family.is_pd
        course = self.course
        return Recommendation(
            asked=AskedFor(
                line=question.words,
                model=space.loaded.config.model.name,
                gpu=str(space.loaded.config.hardware.gpu),
                gpus=space.most_gpus,
                rate_per_s=question.rate_per_s,
                objective=question.goal,
                slo=self.slo,
                workload=self.source.traffic.population().info.source,
                seed=space.loaded.config.seed,
            ),
            looked=Looked(
                candidates=space.count(space.most_gpus, self.routes),
                pruned=self.pruner.found(),
                simulated=len(found.seen),
                same=found.same,
                runs=course.runs,
                simulated_requests=course.simulated_requests,
                requests_of_a_run=course.requests,
            ),
            rate_per_s=found.rate_per_s,
            keeps=found.keeps,
            certain=certain,
            best=tuple(self._place(best, place) for place in range(min(len(best.places), _SHOWN))),
            max_rate=found.found,
            conclusion=conclude(found, self.slo, question.goal, space.most_gpus, certain),
            reason=why(found, self.slo),
            remarks=tuple(question.launch.notes),
            pareto=points_of(self._on_the_same(found), self.slo),
            configuration=configuration_of(question, space, winner),
            calibration=plain(calibration),
            warnings=(
                *self._short(found.rate_per_s),
                *question.launch.warnings,
                *calibration.warnings,
                *left_out(space.plan(winner), is_pd=is_pd),
            ),
        )

    def _short(self, rate_per_s: float) -> tuple[str, ...]:
        """A warning where runs end before a queue that grows would show."""
        wanted, course = self.course.wanted(self._largest(), rate_per_s), self.course
        if course.requests * _SHORT >= wanted:
            return ()
        return (
            f"runs of {counted(course.requests, 'request')} are short at {number(rate_per_s)} requests/s, where "
            f"{math.ceil(wanted):,} are wanted: what grows more slowly does not show, and true limits may be lower; "
            f"recommend.most_requests is {course.settings.most_requests:,}",
        )

    def _on_the_same(self, found: Searched) -> dict[Candidate, Figures]:
        """Short runs on the same requests: of all that ran so at this rate, of the best, and of the winner's kind on
        more GPUs, which shows what these would buy.
        """
        course, rate_per_s = self.course, found.rate_per_s
        ran = course.ran(rate_per_s, course.short, 0)
        asked = dict.fromkeys((*ran, *found.ranked.places, *self._larger(found.ranked.places[0])))
        return course.run(list(asked), rate_per_s, course.short, 0)

    def _larger(self, winner: Candidate) -> list[Candidate]:
        """A few deployments of the winner's kind on more GPUs, at the ratio that is nearest to its own."""
        family, larger = winner.family, []
        totals = [total for total in family.totals(self.space.most_gpus) if total > winner.gpus]
        for total in totals[:: max(1, math.ceil(len(totals) / 4))]:
            prefill = winner.counts[0] * total / winner.gpus
            counts = min(family.splits(total), key=lambda one: abs(one[0] - prefill))
            larger.append(replace(winner, counts=counts))
        return larger

    def _place(self, best: Ranked, place: int) -> Place:
        candidate, slo = best.places[place], self.slo
        runs = best.runs.figures[candidate]
        good = best.mean(candidate, GOOD)

        def mean(name: str) -> float:
            return best.mean(candidate, name).mean

        own, family = candidate.arguments, candidate.family
        output_per_s = mean(THROUGHPUT) / candidate.gpus
        price, _ = price_of(self.space.loaded.config, str(self._first.spec.gpu.name))
        return Place(
            name=candidate.name,
            system=family.system,
            structure=candidate.structure,
            gpus=candidate.gpus,
            servers=candidate.counts,
            tensor_parallel=(family.prefill, family.decode),
            data_parallel=family.data_parallel,
            max_num_batched_tokens=own.max_num_batched_tokens,
            max_num_seqs=own.max_num_seqs,
            routing=own.routing,
            tiers=own.tiers,
            runs=len(runs),
            slo_use=best.mean(candidate, USE),
            good_share=good,
            uses={name: mean(f"use_{name}") for name in LIMITS if f"use_{name}" in runs[0]},
            ttft_ms={"mean": mean("ttft_mean_ms"), "late": mean("use_TTFT") * slo.ttft_ms},
            tpot_ms={"mean": mean("tpot_mean_ms"), "late": mean("use_TPOT") * slo.tpot_ms},
            e2e_ms={"mean": mean("e2e_mean_ms")}
            | ({} if slo.e2e_ms is None else {"late": mean("use_E2E") * slo.e2e_ms}),
            prefix_hit_rate=mean(HIT),
            output_tokens_per_s_per_gpu=output_per_s,
            gpu_usd_per_million_output_tokens=per(price, output_per_s * SECONDS_PER_HOUR, 1_000_000),
            joules_per_output_token=per(mean(POWER), output_per_s) if POWER in runs[0] else None,
            keeps=good.mean >= slo.share,
            surely=abs(good.mean - slo.share) > good.half_width,
            behind=best.behind(place) if place else None,
        )
