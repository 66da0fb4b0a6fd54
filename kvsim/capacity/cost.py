"""What a run costs in money and energy, over its measured window and all of the system's GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvsim.capacity.power import gpu_of, gpus_by_kind, power_of, role_powers, why_unknown
from kvsim.config import Config
from kvsim.config.kinds import is_own, other_gpu
from kvsim.plan.plan import Plan
from kvsim.record.figures import Cost, Energy, KindCost
from kvsim.record.result import SystemResult, TierUse
from kvsim.record.summary import in_window, rows_of, within_limits
from kvsim.spec import prices
from kvsim.spec.tier_kinds import SSD
from kvsim.units import GB, MILLI, SECONDS_PER_HOUR

HOURS_PER_MONTH = 730
"""As clouds bill: a twelfth of a year of 365 days."""
_MILLION, _THOUSAND = 1_000_000, 1000
_JOULES_PER_KWH = 3_600_000


@dataclass(frozen=True)
class Served:
    """What completed in the window."""

    requests: int
    good: int
    """Requests among them that are within the SLO."""
    output_tokens: float
    tokens: float
    """Prompts' too, cached ones included."""


def served_in_window(result: SystemResult, config: Config) -> Served:
    """The requests whose last token came in the window, as throughput counts them."""
    rows = in_window(result, result.window_s)
    in_ttft, in_tpot = within_limits(rows_of(result, rows), config.slo.ttft_ms * MILLI, config.slo.tpot_ms * MILLI)
    output = float(result.table["output_tokens"][rows].sum())
    prompt = float(result.table["prompt_tokens"][rows].sum())
    return Served(int(rows.sum()), int((in_ttft & in_tpot).sum()), output, prompt + output)


def cost_of(result: SystemResult, plan: Plan) -> Cost:
    """Money and energy of a run of ``plan``."""
    config = plan.config
    served = served_in_window(result, config)
    length_s = result.window_s[1] - result.window_s[0]
    hours = length_s / SECONDS_PER_HOUR if length_s > 0 else None
    kinds = _kinds(result, plan, hours)
    gpus = sum(kind.gpus for kind in kinds)
    memory_usd = None if hours is None else _memory_usd(result.cache.tiers, config, hours)
    gpus_usd = total(kind.usd for kind in kinds)
    usd = None if gpus_usd is None else gpus_usd + (memory_usd or 0.0)
    energy, power_source = _energy(result, plan, served, kinds)
    return Cost(
        gpus=gpus,
        window_s=length_s if length_s > 0 else None,
        gpu_hours=total(kind.gpu_hours for kind in kinds),
        gpu_usd_per_hour=_mean(kinds, [kind.gpu_usd_per_hour for kind in kinds]),
        price_source=_said([kind.price_source for kind in kinds]),
        usd=usd,
        memory_usd=memory_usd,
        usd_per_million_output_tokens=per(usd, served.output_tokens, _MILLION),
        usd_per_million_tokens=per(usd, served.tokens, _MILLION),
        usd_per_1000_requests=per(usd, served.requests, _THOUSAND),
        usd_per_1000_good_requests=per(usd, served.good, _THOUSAND),
        energy=energy,
        power_source=power_source,
        kinds=kinds if len(kinds) > 1 else None,
    )


def _kinds(result: SystemResult, plan: Plan, hours: float | None) -> tuple[KindCost, ...]:
    """The GPUs of each kind; ``hours``: of the measured window, ``None`` where it has no length."""
    found = []
    mean_w = _mean_power_w(result, plan)
    there = gpus_there(result, plan)
    for gpu, gpus in gpus_by_kind(result, plan).items():
        price, price_source = price_of(plan.config, gpu)
        power = power_of(plan.config, gpu)
        gpu_hours, own_w = None if hours is None else there[gpu] * hours, mean_w.get(gpu)
        lacks = f"no watts of {gpu} are known; {_where(plan.config, gpu, 'cost.power')} gives them"
        found.append(
            KindCost(
                gpu=gpu,
                gpus=gpus,
                gpu_hours=gpu_hours,
                gpu_usd_per_hour=price,
                price_source=price_source,
                usd=None if price is None or gpu_hours is None else gpu_hours * price,
                kwh=None if own_w is None or gpu_hours is None else own_w * gpu_hours / _THOUSAND,
                mean_gpu_power_w=own_w,
                power_source=lacks if power is None else power.source,
            )
        )
    return tuple(found)


def _where(config: Config, gpu: str, own_key: str) -> str:
    """What gives a figure of a kind."""
    return own_key if is_own(config, gpu) else "cost.other_gpus"


def total(values: Iterable[float | None]) -> float | None:
    """The sum; ``None`` where one of them is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _mean(kinds: Sequence[KindCost], values: Sequence[float | None]) -> float | None:
    """The mean over GPUs; that of one kind as it stands."""
    if len(set(values)) == 1:
        return values[0]
    whole = total(None if value is None else value * kind.gpus for kind, value in zip(kinds, values, strict=True))
    return None if whole is None else whole / sum(kind.gpus for kind in kinds)


def _said(sources: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(sources))


def price_of(config: Config, gpu: str) -> tuple[float | None, str]:
    """What an hour of a GPU costs, and who says so, or why nobody does."""
    other = other_gpu(config, gpu)
    given = config.cost.gpu_usd_per_hour if is_own(config, gpu) else None if other is None else other.gpu_usd_per_hour
    key = _where(config, gpu, "cost.gpu_usd_per_hour")
    if given is not None:
        return given, key
    found = prices.usd_per_hour(gpu)
    if found is None:
        return None, f"{prices.SOURCE} has no price of {gpu}; {key} gives one"
    return found, f"{prices.SOURCE}, {prices.AS_OF}"


def per(amount: float | None, count: float, times: int = 1) -> float | None:
    """``None`` where one of both is not there."""
    return None if amount is None or not count else amount / count * times


def mean_gpu_power_w(result: SystemResult, plan: Plan) -> float | None:
    """A GPU's over the measured window, of those that are there: idle time and unused GPUs too, instances that start,
    drain or have failed as well; ``None``: not known.
    """
    kinds, mean_w = gpus_there(result, plan), _mean_power_w(result, plan)
    if kinds.keys() != mean_w.keys():
        return None
    if len(kinds) == 1:
        return next(iter(mean_w.values()))
    there = sum(kinds.values())
    return sum(mean_w[gpu] * gpus for gpu, gpus in kinds.items()) / there if there else None


def gpus_there(result: SystemResult, plan: Plan) -> dict[str, float]:
    """GPUs of each kind that are paid for, in the mean over the measured window: all, but those of instances that are
    not there. One that has failed is there, and so is one that starts or restarts.
    """
    found: dict[str, float] = dict(gpus_by_kind(result, plan))
    if result.fleet is None or result.window_s[1] <= result.window_s[0]:
        return found
    whole = {role.role: role.gpus for role in result.roles}
    for role in result.fleet.roles:
        found[gpu_of(plan, role.role)] += role.mean(role.paid_gpus, result.window_s) - whole[role.role]
    return found


def _mean_power_w(result: SystemResult, plan: Plan) -> dict[str, float]:
    """A GPU's of each kind; kinds of which it is not known are left out."""
    length_s = result.window_s[1] - result.window_s[0]
    kinds = gpus_there(result, plan)
    powers = {gpu: power for gpu in kinds if (power := power_of(plan.config, gpu)) is not None}
    if why_unknown(plan) is not None or length_s <= 0:
        return {}
    roles = role_powers(result, plan, powers)
    found = {}
    for gpu, power in powers.items():
        own = [role for role in roles if role.gpu == gpu]
        idle = kinds[gpu] - sum(role.gpus for role in own)  # Unused, less those not there: both run no steps.
        if kinds[gpu]:
            found[gpu] = (sum(role.window_w * role.gpus for role in own) + power.idle_w * idle) / kinds[gpu]
    return found


def _energy(result: SystemResult, plan: Plan, served: Served, kinds: Sequence[KindCost]) -> tuple[Energy | None, str]:
    why, length_s = why_unknown(plan), result.window_s[1] - result.window_s[0]
    lacking = [kind for kind in kinds if power_of(plan.config, kind.gpu) is None]
    if lacking:
        return None, lacking[0].power_source
    if why is not None:
        return None, why
    mean_w = mean_gpu_power_w(result, plan)
    joules = None if mean_w is None else mean_w * length_s * sum(gpus_there(result, plan).values())
    found = Energy(
        kwh=per(joules, _JOULES_PER_KWH),
        joules_per_output_token=per(joules, served.output_tokens),
        joules_per_token=per(joules, served.tokens),
        joules_per_good_request=per(joules, served.good),
        mean_gpu_power_w=mean_w,
    )
    return found, _said([kind.power_source for kind in kinds])


def _memory_usd(tiers: Sequence[TierUse], config: Config, hours: float) -> float | None:
    """What tiers cost that have a price: drives as ``ssd``, all else is DRAM."""
    cost = config.cost
    by_kind: Mapping[bool, float | None] = {True: cost.ssd_usd_per_gb_month, False: cost.dram_usd_per_gb_month}
    found = [
        tier.capacity_bytes / GB * price * hours / HOURS_PER_MONTH
        for tier in tiers
        if (price := by_kind[tier.name == SSD.name]) is not None
    ]
    return sum(found) if found else None
