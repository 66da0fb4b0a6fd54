"""Unified instances of several kinds in one cluster: the kinds, and how many instances there are of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvsim.config import Config
from kvsim.config.kinds import of_pool
from kvsim.plan.instance import Instance, instance_of

TYPICAL_TOKENS = 2048
"""Tokens of the prompt by which kinds are told how fast they are."""


@dataclass(frozen=True)
class Pool:
    """Instances of one kind, whose numbers follow each other."""

    instance: Instance
    instances: int
    keeps_budget: bool = False
    """Whether somebody gave it a token budget of its own, which is not tuned."""

    @property
    def gpus(self) -> int:
        return self.instances * self.instance.degree

    @property
    def prompt_token_s(self) -> float:
        """What a prompt token takes an instance that has nothing else to do."""
        return self.instance.step_time.prefill_alone_s(TYPICAL_TOKENS, 0) / TYPICAL_TOKENS

    def changed(self, change: Callable[[Instance], Instance]) -> Pool:
        """A pool of instances that ``change`` makes of its own."""
        return replace(self, instance=change(self.instance))

    def is_like(self, other: Pool) -> bool:
        """Whether instances of both are alike in all that a run looks at."""
        one, two = self.instance, other.instance
        alike = one.spec == two.spec and one.settings == two.settings and one.nearest == two.nearest
        return alike and one.nic_bytes_per_s == two.nic_bytes_per_s and self.keeps_budget == other.keeps_budget


def pools_of(config: Config, *, stepwise: bool = False) -> tuple[Pool, ...]:
    """The pools of ``cluster.pools`` in their order, those that are alike as one; none where nobody gave any."""
    found: list[Pool] = []
    for item in config.cluster.pools or ():
        instance = instance_of(of_pool(config, item), stepwise=stepwise)
        pool = Pool(instance, item.instances, item.max_num_batched_tokens is not None)
        place = next((place for place, known in enumerate(found) if known.is_like(pool)), None)
        if place is None:
            found.append(pool)
        else:
            found[place] = replace(found[place], instances=found[place].instances + pool.instances)
    return tuple(found)


def scaled(pools: Sequence[Pool], num_instances: int) -> tuple[Pool, ...]:
    """So many instances in the same proportion, as near as whole ones come, at least one of each kind."""
    total = sum(pool.instances for pool in pools)
    exact = [pool.instances * num_instances / total for pool in pools]
    counts = [max(1, int(share)) for share in exact]
    by_rest = sorted(range(len(pools)), key=lambda place: int(exact[place]) - exact[place])
    for place in by_rest:
        if sum(counts) < num_instances and exact[place] > counts[place]:
            counts[place] += 1
    return tuple(replace(pool, instances=count) for pool, count in zip(pools, counts, strict=True))


def slowness(pools: Sequence[Pool]) -> list[float]:
    """By instance: seconds of a prompt token over those of the fastest kind, 1 or more."""
    fastest_s = min(pool.prompt_token_s for pool in pools)
    return [pool.prompt_token_s / fastest_s for pool in pools for _ in range(pool.instances)]
