"""Questions about memory: how much, of which kind, under which policy. Variants of a study meet the same requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from kvsim.capacity.demand import demand_of
from kvsim.capacity.load_search import Offered
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.session_traffic import SessionsTraffic
from kvsim.config import Config
from kvsim.errors import CapacityError
from kvsim.failures import Failures
from kvsim.plan.fitting import fitting_rows
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult
from kvsim.sim.run import Case, ProgressMaker, run_whole
from kvsim.study.all import Studied, answered
from kvsim.study.context import check_measured, latencies
from kvsim.study.sequential import Arm, Budget, Figures, Goal, Replicated, replicate
from kvsim.units import GB
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload

MOST_REQUESTS = 2_500
"""Of one run of a study."""
WARMUP_SHARE = 0.3
_DEMAND_REQUESTS = 64
"""Of sessions with long contexts, to know what rate they allow."""
BEST, BASE = "belady", "lru"
KNEE_SHARE = 0.1
"""Of the rise of a curve: one that bends by less is called straight."""


@dataclass(frozen=True)
class Ground:
    """What every study of a run starts from."""

    mode: Mode
    config: Config
    traffic: Traffic
    offered: Offered
    seed: int
    progress: ProgressMaker

    @cached_property
    def sample(self) -> Plan:
        """At most ``studies.instances`` instances."""
        plan = self.offered.plan
        return plan.scaled_to(min(plan.num_instances, self.config.studies.instances)) if self._scales else plan

    @property
    def _scales(self) -> bool:
        return self.mode.name == "cluster"

    @cached_property
    def requests_per_s(self) -> float:
        """The run's rate, on as many instances as the sample has."""
        plan, rate_per_s = self.offered.plan, self.offered.workload.mean_rate_per_s
        return rate_per_s * self.sample.num_instances / plan.num_instances

    @cached_property
    def workload(self) -> Workload:
        """What all studies but that of context lengths serve."""
        if self.sample.num_instances == self.offered.plan.num_instances:
            return self.offered.workload.limited(self.most_requests)
        share = self.sample.num_instances / self.offered.plan.num_instances
        copies = self.traffic.copies_at(self.offered.workload.mean_rate_per_s)
        kept = None if copies is None else max(1, round(copies * share))
        return self.traffic.sample(self.requests_per_s, self.most_requests, kept, self.seed)

    @property
    def most_requests(self) -> int:
        return min(self.config.studies.max_requests, MOST_REQUESTS)

    def part(self, seed: int) -> Workload:
        """As ``workload``, but others with each seed."""
        share = self.sample.num_instances / self.offered.plan.num_instances
        copies = self.traffic.copies_at(self.offered.workload.mean_rate_per_s)
        kept = None if copies is None else max(1, round(copies * share))
        return self.traffic.part(self.requests_per_s, self.most_requests, kept, seed)

    def replicate(
        self,
        plans: Mapping[Arm, Plan],
        base_of: Callable[[Arm], Arm],
        goal: Goal,
        requests: Callable[[int], Workload] | None = None,
        share: float = 1.0,
    ) -> Replicated[Arm]:
        """Serve ``requests(seed)``, or else parts of the run's, on every plan, with seed after seed.

        ``share`` of ``studies.tier_budget_requests`` is for that.
        """
        settings = self.config.studies
        children = np.random.SeedSequence(self.seed).spawn(settings.most_replications)
        seeds = [int(child.generate_state(1)[0]) for child in children]

        def once(replication: int, running: Sequence[Arm]) -> tuple[dict[Arm, Figures], int]:
            seed = seeds[replication]
            workload = (requests or self.part)(seed)
            figures_of = {
                arm: flat(figures(self.run(f"{named(arm)}, {replication + 1}", plans[arm], workload, seed)))
                for arm in running
            }
            return figures_of, len(workload) * len(running)

        budget = Budget(settings.replications, settings.most_replications, round(share * settings.tier_budget_requests))
        return replicate(list(plans), lambda arm, _: base_of(arm), once, goal, budget)

    def goal(self, *metrics: str) -> Goal:
        settings = self.config.studies
        return Goal(metrics, settings.precision, settings.tie_share, settings.confidence)

    def sizes(self) -> dict[str, Any]:
        """What every study says of where it ran."""
        drawn = self.traffic.copies_at(self.offered.workload.mean_rate_per_s) is None
        return {
            "instances": self.sample.num_instances,
            "of_instances": self.offered.plan.num_instances,
            "trace_requests": None if drawn else len(self.traffic.population()),
        }

    def run(self, label: str, plan: Plan, workload: Workload | None = None, seed: int | None = None) -> SystemResult:
        """Serve the workload; an interrupt goes on as ``KeyboardInterrupt``.

        Raises ``CapacityError`` where no request of it counts.
        """
        workload = self.workload if workload is None else workload
        fitting_rows(workload, plan)
        warmup, own_seed = int(len(workload) * WARMUP_SHARE), self.seed if seed is None else seed
        case = Case(label, "unified", plan.without_restart(), workload, own_seed, warmup)
        result = run_whole(case, self.progress)
        check_measured(result, label)
        return result


def changed(plan: Plan, tiers: Sequence[str] | None = None, **settings: float | str) -> Plan:
    """The plan with other tiers, or other values of settings: section and key joined by two underscores."""
    config = plan.config
    for path, value in settings.items():
        config = _with(config, path.split("__"), value)
    return replace(plan, config=config, tiers=plan.tiers if tiers is None else tuple(tiers))


def _with(section: Any, path: Sequence[str], value: Any) -> Any:
    if len(path) > 1:
        value = _with(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: value})


def figures(result: SystemResult) -> dict[str, Any]:
    """What the tables of these studies show of a run.

    ``growing_share``: whether TTFT grew with its length, as where the rate of the run that the study belongs to is more
    than this memory lets the instances serve; of several runs the share that did.
    """
    use = result.cache
    queried = max(use.query_tokens, 1)
    return {
        "hit_rate": use.hit_tokens / queried,
        "by_tier": {tier.name: tier.loaded_tokens / queried for tier in use.tiers},
        "busiest_share": {tier.name: tier.busiest_share for tier in use.tiers},
        "mean_wait_ms": {tier.name: tier.mean_wait_s * 1e3 for tier in use.tiers},
        "held_gb": {tier.name: tier.held_bytes / GB for tier in use.tiers},
        "capacity_gb": {tier.name: tier.capacity_bytes / GB for tier in use.tiers},
        "misses": {reason: tokens / queried for reason, tokens in use.misses.items()},
        **latencies(result),
        "growing_share": float(result.pace is not None and result.pace.overloaded),
    }


def flat(found: Mapping[str, Any]) -> Figures:
    """One number a key: those inside others get both names, with a dot between."""
    numbers: Figures = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}.{inner}": float(number) for inner, number in value.items()}
        else:
            numbers[name] = float(value)
    return numbers


def means(found: Replicated[Arm], arm: Arm) -> dict[str, Any]:
    """``figures`` of the mean over an arm's runs."""
    row: dict[str, Any] = {"by_tier": {}, "busiest_share": {}, "mean_wait_ms": {}, "held_gb": {}, "capacity_gb": {}}
    for name, around in found.means(arm).items():
        outer, _, inner = name.partition(".")
        if inner:
            row.setdefault(outer, {})[inner] = around["mean"]
        else:
            row[outer] = around["mean"]
    return {**row, "runs": len(found.figures[arm])}


def named(arm: Any) -> str:
    """An arm's name in a label of progress."""
    return " ".join(map(str, arm)) if isinstance(arm, tuple) else str(arm)


def capacity_study(ground: Ground) -> dict[str, Any]:
    """Hit rate and TTFT over the size of one tier of host memory, with nothing below it, per policy.

    Every cell is one run; where LRU is farthest from the oracle there, the two are run again on other requests.
    """
    plan = ground.sample
    without = figures(ground.run("no tier", changed(plan, ())))
    whole = figures(ground.run("memory without end", changed(plan, ("dram",), hardware__dram__capacity_gb=1e9)))
    hosts = len({place.host for place in plan.unified_places()})
    footprint_gb = whole["held_gb"]["dram"]
    own = plan.config.policies.eviction
    policies = list(dict.fromkeys([BASE, own, *ground.config.studies.evictions, BEST]))
    rows: list[dict[str, Any]] = []
    shares = sorted(set(ground.config.studies.capacity_shares)) if footprint_gb else []
    for share in shares:
        capacity_gb = max(share * footprint_gb / hosts, 2 * _chunk_gb(plan))
        if rows and capacity_gb == rows[-1]["capacity_gb_per_host"]:
            continue
        row: dict[str, Any] = {"share": share, "capacity_gb_per_host": capacity_gb, "policies": {}}
        for policy in policies:
            sized = changed(plan, ("dram",), hardware__dram__capacity_gb=capacity_gb, policies__eviction=policy)
            row["policies"][policy] = figures(ground.run(f"{policy} {capacity_gb:,.0f} GB", sized))
        rows.append(row)
    gaps, noise = [_gaps(row) for row in rows], _noise(rows, without)
    return {
        **ground.sizes(),
        "tie_share": ground.config.studies.tie_share,
        "hosts": hosts,
        "requests": len(ground.workload),
        "requests_per_s": ground.requests_per_s,
        "footprint_gb": footprint_gb,
        "without": without,
        "whole": whole,
        "rows": rows,
        "knee_gb_per_host": _knee(rows, without, BASE),
        "gap_to_belady": gaps,
        "noise_hit_points": noise,
        "widest_gap": _widest_gap(ground, rows, gaps, noise),
        "gain_per_gb": _gains(rows, without, BASE),
    }


def _widest_gap(
    ground: Ground, rows: Sequence[Mapping[str, Any]], gaps: Sequence[Mapping[str, Any]], noise: float
) -> dict[str, Any] | None:
    """The oracle less LRU at the size where single runs are farthest apart; ``None`` where that may be noise."""
    at = max(range(len(rows)), key=lambda row: gaps[row][BASE]["hit_points"], default=None)
    if at is None or gaps[at][BASE]["hit_points"] <= noise:
        return None
    capacity_gb = rows[at]["capacity_gb_per_host"]
    plans = {
        policy: changed(ground.sample, ("dram",), hardware__dram__capacity_gb=capacity_gb, policies__eviction=policy)
        for policy in (BASE, BEST)
    }
    found = ground.replicate(plans, lambda _: BASE, ground.goal("hit_rate"))
    apart = {metric: found.apart(BEST, BASE, metric).report() for metric in ("hit_rate", "ttft_mean_ms")}
    return {"capacity_gb_per_host": capacity_gb, **found.report(), **apart}


def _chunk_gb(plan: Plan) -> float:
    return plan.config.cache.chunk_tokens * plan.spec.kv_bytes_per_token / GB


def _knee(rows: Sequence[Mapping[str, Any]], without: Mapping[str, Any], policy: str) -> float | None:
    """Where the curve of hit rate over capacity is farthest above its chord (Satopää et al. 2011); linear capacity.

    The curve begins without any. One that stays within ``KNEE_SHARE`` of its rise of the chord, or below it, has none.
    """
    x = np.array([0.0, *(row["capacity_gb_per_host"] for row in rows)])
    y = np.array([without["hit_rate"], *(row["policies"][policy]["hit_rate"] for row in rows)])
    if y[-1] - y[0] < 1e-3:
        return None
    above = (y - y[0]) / (y[-1] - y[0]) - x / x[-1]
    return float(x[int(np.argmax(above))]) if np.max(above) > KNEE_SHARE else None


def _gaps(row: Mapping[str, Any]) -> dict[str, Any]:
    """How far each policy is from the oracle, in points of hit rate and in milliseconds of mean TTFT."""
    best = row["policies"][BEST]
    return {
        policy: {
            "hit_points": 100 * (best["hit_rate"] - found["hit_rate"]),
            "ttft_mean_ms": found["ttft_mean_ms"] - best["ttft_mean_ms"],
        }
        for policy, found in row["policies"].items()
    }


def _noise(rows: Sequence[Mapping[str, Any]], without: Mapping[str, Any]) -> float:
    """The most, in points, that a hit rate falls where more memory can only raise it, or that a policy is above the
    oracle: what one run does not tell.

    Requests are routed by what caches hold: two runs that differ a little do not send an instance the same prompts.
    """
    if not rows:
        return 0.0
    policies = list(rows[0]["policies"])
    rates = np.array([[row["policies"][policy]["hit_rate"] for policy in policies] for row in rows])
    rates = np.vstack((np.full(len(policies), without["hit_rate"]), rates))
    falls = np.max(np.maximum.accumulate(rates, axis=0) - rates)
    above = np.max(rates - rates[:, policies.index(BEST)][:, None])
    return float(100 * max(falls, above))


def _gains(rows: Sequence[Mapping[str, Any]], without: Mapping[str, Any], policy: str) -> list[dict[str, float]]:
    """What each further GB a host buys, from one capacity to the next."""
    found, before_gb, before = [], 0.0, without
    for row in rows:
        here, capacity_gb = row["policies"][policy], row["capacity_gb_per_host"]
        more_gb = capacity_gb - before_gb
        found.append(
            {
                "to_gb_per_host": capacity_gb,
                "hit_points_per_gb": 100 * (here["hit_rate"] - before["hit_rate"]) / more_gb,
                "ttft_mean_ms_per_gb": (before["ttft_mean_ms"] - here["ttft_mean_ms"]) / more_gb,
            }
        )
        before_gb, before = capacity_gb, here
    return found


def tiers_study(ground: Ground) -> dict[str, Any]:
    """What each tier adds to those above it, and what a GB of it buys."""
    plan, rows = ground.sample, list[dict[str, Any]]()
    plans = {plan.tiers[:count]: changed(plan, plan.tiers[:count]) for count in range(len(plan.tiers) + 1)}
    found = ground.replicate(plans, lambda names: names[:-1], ground.goal("ttft_mean_ms"))
    for names in plans:
        row = {"tiers": ["hbm", *names], **means(found, names)}
        if names:
            gigabytes, apart = row["held_gb"][names[-1]], found.apart(names, names[:-1], "ttft_mean_ms")
            row["added"] = {
                "used_gb": gigabytes,
                "hit_points": 100 * found.apart(names, names[:-1], "hit_rate").interval.mean,
                "ttft_mean_ms": -apart.interval.mean,
                "ttft_mean_ms_per_tb": -1e3 * apart.interval.mean / max(gigabytes, 1e-9),
                "ttft_difference_ms": apart.report(),
            }
        rows.append(row)
    return {**ground.sizes(), **found.report(), "requests": found.requests_a_run, "rows": rows}


def eic_study(ground: Ground) -> dict[str, Any]:
    """The rack's pool off, and of several sizes, beside the instances' own caches alone and beside host memory."""
    plan = ground.sample
    own_gb = plan.spec.num_blocks * plan.spec.block_size_tokens * plan.spec.kv_bytes_per_token / GB
    above = tuple(name for name in plan.tiers if name == "dram")
    sizes_gb = sorted({0.0, *ground.config.studies.eic_gb_per_rack})
    plans = {
        (beside, pool_gb): _with_pool(plan, beside, pool_gb)
        for beside in dict.fromkeys([(), above])
        for pool_gb in sizes_gb
    }
    found = ground.replicate(plans, lambda arm: (arm[0], 0.0), ground.goal("ttft_mean_ms"))
    rows = []
    for beside, pool_gb in plans:
        arm, off = (beside, pool_gb), (beside, 0.0)
        apart = {metric: found.apart(arm, off, metric).report() for metric in ("hit_rate", "ttft_mean_ms")}
        row = {"beside": ["hbm", *beside], "pool_gb_per_rack": pool_gb, **means(found, arm)}
        rows.append({**row, "over_no_pool": apart})
    return {
        **ground.sizes(),
        **found.report(),
        "racks": plan.num_racks,
        "requests": found.requests_a_run,
        "hbm_kv_gb_per_instance": own_gb,
        "smaller_than_an_instance": [gb for gb in sizes_gb if 0 < gb < own_gb],
        "rows": rows,
    }


def _with_pool(plan: Plan, beside: tuple[str, ...], pool_gb: float) -> Plan:
    nodes = max(1, plan.config.cluster.eic.nodes_per_rack)
    return changed(
        plan,
        (*beside, "eic") if pool_gb else beside,
        cluster__eic__capacity_per_node_gb=(pool_gb or 1.0) / nodes,
        cluster__eic__nodes_per_rack=nodes,
    )


def context_study(ground: Ground) -> dict[str, Any]:
    """Sessions that begin with long contexts, with the tiers and without; the load per token of the run.

    Raises ``CapacityError`` where the turns of a session alone are more than an instance takes.
    """
    traffic, settings = ground.mode.traffic(ground.config)[1], ground.sample.colocated_settings
    most_tokens = min(settings.max_model_len, settings.room_tokens)
    turns_tokens = traffic.turns_per_session * (traffic.prompt_tokens_max + 8 * int(traffic.output_tokens_mean))
    longest = most_tokens - turns_tokens
    if longest < 1:
        raise CapacityError(
            f"no context fits: {turns_tokens:,} tokens for a session's turns are no fewer than the {most_tokens:,} "
            "that the model and the KV blocks of an instance take"
        )
    contexts = list(dict.fromkeys(min(asked, longest) for asked in ground.config.studies.context_tokens))
    rows = [_context_row(ground, context, 1 / len(contexts)) for context in contexts]
    runs = [row["replications"] for row in rows]
    return {
        **ground.sizes(),
        "replications": max(runs),
        "fewest_replications": min(runs),
        **{name: rows[0][name] for name in ("confidence", "tie_share", "precision")},
        "within_budget": all(row["within_budget"] for row in rows),
        "trace_requests": None,
        "rows": rows,
    }


def _context_row(ground: Ground, context_tokens: int, share: float) -> dict[str, Any]:
    section, traffic = ground.mode.traffic(ground.config)
    mean_tokens = float(ground.workload.prompt_tokens.mean())
    long = traffic.model_copy(update={"initial_context_tokens": context_tokens, "num_rag_chunks": 0})
    config = ground.config.model_copy(update={section: long})
    source = SessionsTraffic(config, ground.mode)
    most_per_s = maximum_rate(ground.sample, demand_of(source.at_rate(1.0, _DEMAND_REQUESTS), ground.sample), "unified")
    rate_per_s = min(ground.requests_per_s * min(1.0, mean_tokens / context_tokens), most_per_s)
    num = max(ground.most_requests // 4, 50)
    plans = {"with_tiers": ground.sample, "without": changed(ground.sample, ())}
    found = ground.replicate(
        plans,
        lambda _: "without",
        ground.goal("ttft_mean_ms"),
        lambda seed: source.sample(rate_per_s, num, None, seed),
        share,
    )
    return {
        "context_tokens": context_tokens,
        "requests": found.requests_a_run,
        "requests_per_s": rate_per_s,
        **found.report(),
        **{name: means(found, name) for name in plans},
        "saved": found.apart("with_tiers", "without", "ttft_mean_ms").report(),
    }


STUDIES: Mapping[str, Callable[[Ground], dict[str, Any]]] = {
    "capacity": capacity_study,
    "tiers": tiers_study,
    "eic": eic_study,
    "context": context_study,
}
REPORTED = {"context": "contexts"}
"""Names in the report where they are others."""


def run_studies(ground: Ground, names: Sequence[str], failures: Failures) -> Studied:
    """Each of ``names``, one after the other."""
    return answered({REPORTED.get(name, name): partial(STUDIES[name], ground) for name in names}, failures)
