"""What a run costs in money and energy, over its measured window and all of the system's GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvsim.capacity.power import power_of, role_powers, why_unknown
from kvsim.config import Config
from kvsim.plan.plan import Plan
from kvsim.record.figures import Cost, Energy
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
    config, gpu = plan.config, plan.spec.gpu.name
    served = served_in_window(result, config)
    length_s = result.window_s[1] - result.window_s[0]
    hours = length_s / SECONDS_PER_HOUR if length_s > 0 else None
    gpu_hours = None if hours is None else gpus_there(result, plan) * hours
    price, price_source = price_of(config, gpu)
    memory_usd = None if hours is None else _memory_usd(result.cache.tiers, config, hours)
    usd = None if price is None or gpu_hours is None else gpu_hours * price + (memory_usd or 0.0)
    energy, power_source = _energy(result, plan, served, length_s)
    return Cost(
        gpus=plan.num_gpus,
        window_s=length_s if length_s > 0 else None,
        gpu_hours=gpu_hours,
        gpu_usd_per_hour=price,
        price_source=price_source,
        usd=usd,
        memory_usd=memory_usd,
        usd_per_million_output_tokens=per(usd, served.output_tokens, _MILLION),
        usd_per_million_tokens=per(usd, served.tokens, _MILLION),
        usd_per_1000_requests=per(usd, served.requests, _THOUSAND),
        usd_per_1000_good_requests=per(usd, served.good, _THOUSAND),
        energy=energy,
        power_source=power_source,
    )


def price_of(config: Config, gpu: str) -> tuple[float | None, str]:
    """What an hour of a GPU costs, and who says so, or why nobody does."""
    if config.cost.gpu_usd_per_hour is not None:
        return config.cost.gpu_usd_per_hour, "cost.gpu_usd_per_hour"
    found = prices.usd_per_hour(gpu)
    if found is None:
        return None, f"{prices.SOURCE} has no price of {gpu}; cost.gpu_usd_per_hour gives one"
    return found, f"{prices.SOURCE}, {prices.AS_OF}"


def per(amount: float | None, count: float, times: int = 1) -> float | None:
    """``None`` where one of both is not there."""
    return None if amount is None or not count else amount / count * times


def mean_gpu_power_w(result: SystemResult, plan: Plan) -> float | None:
    """A GPU's over the measured window, of those that are there: idle time and unused GPUs too, instances that start,
    drain or have failed as well; ``None``: not known.
    """
    power = power_of(plan.config, plan.spec.gpu.name)
    length_s = result.window_s[1] - result.window_s[0]
    if power is None or why_unknown(plan) is not None or length_s <= 0:
        return None
    roles = role_powers(result, plan, power)
    there = gpus_there(result, plan)
    idle = there - sum(role.gpus for role in roles)  # Unused ones, less those that are not there: both run no steps.
    return (sum(role.window_w * role.gpus for role in roles) + power.idle_w * idle) / there if there else None


def gpus_there(result: SystemResult, plan: Plan) -> float:
    """GPUs that are paid for, in the mean over the measured window: all of the plan's, but those of instances that are
    not there. One that has failed is there, and so is one that starts or restarts.
    """
    if result.fleet is None or result.window_s[1] <= result.window_s[0]:
        return plan.num_gpus
    roles = result.fleet.roles
    return plan.num_gpus + sum(role.gpus * (role.mean(role.paid, result.window_s) - role.instances) for role in roles)


def _energy(result: SystemResult, plan: Plan, served: Served, length_s: float) -> tuple[Energy | None, str]:
    gpu = plan.spec.gpu.name
    power, why = power_of(plan.config, gpu), why_unknown(plan)
    if power is None:
        return None, f"no watts of {gpu} are known; cost.power gives them"
    if why is not None:
        return None, why
    mean_w = mean_gpu_power_w(result, plan)
    joules = None if mean_w is None else mean_w * length_s * gpus_there(result, plan)
    found = Energy(
        kwh=per(joules, _JOULES_PER_KWH),
        joules_per_output_token=per(joules, served.output_tokens),
        joules_per_token=per(joules, served.tokens),
        joules_per_good_request=per(joules, served.good),
        mean_gpu_power_w=mean_w,
    )
    return found, power.source


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
