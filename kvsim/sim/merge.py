"""One run of several that went side by side and shared nothing: what each has left, added up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from kvsim.config import Config
from kvsim.plan.plan import Place
from kvsim.record.detail import DraftUse
from kvsim.record.fleet import merged_fleet
from kvsim.record.histogram import WeightedHistogram
from kvsim.record.result import COLUMNS, AdapterUse, CacheUse, Check, TransferUse
from kvsim.sim.ended import Ended, Floats, RoleEnd
from kvsim.sim.log.conservation import exact
from kvsim.sim.log.merge_detail import DetailNumbers, merged_detail
from kvsim.sim.log.step_totals import StepTotals, added
from kvsim.sim.systems.arrivals import after_failed_notes
from kvsim.sim.tiers.merge_use import merged_tiers
from kvsim.sim.tiers.use import tier_notes
from kvsim.workload.graph import Ints

_ID: Final = COLUMNS.index("request_id")
_FINISH: Final = COLUMNS.index("finish_s")
_PREFILL: Final = COLUMNS.index("prefill_instance")
_DECODE: Final = COLUMNS.index("decode_instance")
_NO_STEPS: Final = StepTotals(WeightedHistogram(), 0.0, 0.0, np.zeros(0))


@dataclass(frozen=True)
class Numbers:
    """By what numbers the whole run knows what a part of it has numbered from 0 on."""

    requests: Ints
    first_prefill: int
    """Number of its first instance that computes prompts."""
    first_decode: int
    """Number of its first one that generates answers: the same where none does one alone."""


class Merge:
    """The parts of a run so far, added in their order."""

    def __init__(
        self,
        requests: int,
        config: Config,
        places: Sequence[Place],
        prefills: int,
        marks_s: tuple[float, ...] | None,
        cells_note: str | None,
    ) -> None:
        """``requests``: of the whole run. ``places``: of its instances, of which the first ``prefills`` compute
        prompts. ``marks_s``: as of ``kvsim.sim.systems.run_part.RunPart``. ``cells_note``: of parts that the
        configuration asks for.
        """
        self._config, self._marks_s, self._cells_note = config, marks_s, cells_note
        self._places, self._prefills = places, prefills
        self._rows = np.empty((requests, len(COLUMNS)))
        self._filled = 0
        self._parts: list[Ended] = []
        self._numbers: list[DetailNumbers] = []
        self._steps: list[StepTotals] = []

    def add(self, part: Ended, numbers: Numbers) -> None:
        """The next part."""
        count = len(part.rows)
        own = self._rows[self._filled : self._filled + count]
        own[:] = part.rows
        own[:, _ID] = numbers.requests[own[:, _ID].astype(np.int64)]
        own[:, _PREFILL] += numbers.first_prefill
        own[:, _DECODE] += np.where(own[:, _DECODE] < 0, 0, numbers.first_decode)
        self._filled += count
        own_steps = [role.steps for role in part.roles]
        pairs = zip(self._steps, own_steps, strict=True)
        self._steps = [added(pair) for pair in pairs] if self._steps else [added([steps]) for steps in own_steps]
        roles = tuple(replace(role, steps=_NO_STEPS) for role in part.roles)
        self._parts.append(replace(part, rows=np.empty((0, len(COLUMNS))), roles=roles))
        prefills, others = roles[0].instances, sum(role.instances for role in roles[1:])
        prefill = np.arange(prefills) + numbers.first_prefill
        decode = np.arange(others) + numbers.first_decode + self._prefills
        self._numbers.append(DetailNumbers(numbers.requests, np.concatenate((prefill, decode))))

    def whole(self) -> Ended:
        """The run that they make up."""
        parts = self._parts
        end_s = max(part.end_s for part in parts)
        rows = self._in_order()
        marks_s = self._marks(end_s)
        cache = self._cache(rows, end_s)
        after_failed = sum(part.after_failed for part in parts)
        return Ended(
            rows=rows,
            arrived=sum(part.arrived for part in parts),
            completed=sum(part.completed for part in parts),
            failed=sum(part.failed for part in parts),
            gave_up=sum(part.gave_up for part in parts),
            population_s=sum(part.population_s for part in parts),
            failed_s=sum(part.failed_s for part in parts),
            failed_arrival_s=np.sort(np.concatenate([part.failed_arrival_s for part in parts]), kind="stable"),
            end_s=end_s,
            sim_cpu_s=sum(part.sim_cpu_s for part in parts),
            events=sum(part.events for part in parts),
            incomplete=any(part.incomplete for part in parts),
            marks_s=marks_s,
            roles=tuple(self._role(number, marks_s) for number in range(len(parts[0].roles))),
            cache=cache,
            tier_transfers=tuple(map(sum, zip(*(part.tier_transfers for part in parts), strict=True))),
            transfer=_transfer(parts, end_s),
            checks=(*self._dealing(rows), *_checks(parts)),
            notes=(*self._notes(), *after_failed_notes(after_failed), *tier_notes(cache, self._config)),
            after_failed=after_failed,
            drafts=_drafts(parts),
            adapters=_adapters(parts),
            fleet=merged_fleet([part.fleet for part in parts], end_s),
            detail=merged_detail([part.detail for part in parts], self._numbers, self._places, self._prefills, end_s),
        )

    def _in_order(self) -> Floats:
        """The rows in the order of completion; at one instant, in that of the parts. Column by column, in place: they
        are most of what a long run takes."""
        rows = self._rows[: self._filled]
        order = np.argsort(rows[:, _FINISH], kind="stable")
        for column in range(len(COLUMNS)):
            rows[:, column] = rows[order, column]
        return rows

    def _dealing(self, rows: Floats) -> list[Check]:
        """Nobody is served by two cells."""
        if self._cells_note is None:
            return []
        return [exact("requests complete = those of one cell each", len(rows), len(np.unique(rows[:, _ID])))]

    def _marks(self, end_s: float) -> Floats:
        if self._marks_s is not None:
            return np.append(self._marks_s, end_s)
        return np.append(np.unique(np.concatenate([part.marks_s[:-1] for part in self._parts])), end_s)

    def _role(self, number: int, marks_s: Floats) -> RoleEnd:
        own = [part.roles[number] for part in self._parts]
        held_block_s = np.zeros(len(marks_s))
        for part, role in zip(self._parts, own, strict=True):
            held_block_s += self._held(part, role, marks_s)
        return RoleEnd(
            role=own[0].role,
            instances=sum(role.instances for role in own),
            gpus=sum(role.gpus for role in own),
            blocks=sum(role.blocks for role in own),
            steps=self._steps[number],
            held_block_s=held_block_s,
        )

    def _held(self, part: Ended, role: RoleEnd, marks_s: Floats) -> Floats:
        """At each mark; a part that ended before holds nothing more. Between marks of its own it is interpolated."""
        if self._marks_s is None:
            found: Floats = np.interp(marks_s, np.append(0.0, part.marks_s), np.append(0.0, role.held_block_s))
            return found
        missing = len(marks_s) - len(role.held_block_s)
        return np.append(role.held_block_s, np.full(missing, role.held_block_s[-1]))

    def _cache(self, rows: Floats, end_s: float) -> CacheUse:
        uses = [part.cache for part in self._parts]
        instances = np.unique(rows[:, _PREFILL]).astype(int).tolist()
        return CacheUse(
            query_tokens=sum(use.query_tokens for use in uses),
            hit_tokens=sum(use.hit_tokens for use in uses),
            evicted_blocks=sum(use.evicted_blocks for use in uses),
            blocks_per_instance=uses[0].blocks_per_instance,
            preemptions=sum(use.preemptions for use in uses),
            tiers=merged_tiers(self._parts, end_s),
            misses={name: sum(use.misses[name] for use in uses) for name in uses[0].misses},
            movements={name: sum(use.movements[name] for use in uses) for name in uses[0].movements},
            loads=sum(use.loads for use in uses),
            active_instances=len(instances),
            active_racks=len({self._places[instance].rack for instance in instances}),
        )

    def _notes(self) -> list[str]:
        """What parts noted that has no count of theirs in it, each once."""
        found: dict[str, None] = {} if self._cells_note is None else {self._cells_note: None}
        for part in self._parts:
            counted = {*after_failed_notes(part.after_failed), *tier_notes(part.cache, self._config)}
            found.update(dict.fromkeys(note for note in part.notes if note not in counted))
        return list(found)


def _checks(parts: Sequence[Ended]) -> list[Check]:
    """Laws of sums: what is expected and found of all, and whether each part kept it."""
    found: dict[str, Check] = {}
    for check in (check for part in parts for check in part.checks):
        so_far = found.get(check.name)
        if so_far is not None:
            expected, others = so_far.expected + check.expected, so_far.found + check.found
            check = Check(check.name, expected, others, so_far.ok and check.ok)
        found[check.name] = check
    return list(found.values())


def _transfer(parts: Sequence[Ended], end_s: float) -> TransferUse | None:
    """Means over transfers are weighed by them, shares of NICs by what each part could have carried."""
    uses = [part.transfer for part in parts if part.transfer is not None]
    if not uses:
        return None
    transfers = sum(use.transfers for use in uses)
    transfer_s = sum(use.mean_s * use.transfers for use in uses if use.transfers)
    hidden_s = sum(use.hidden_share * use.mean_s * use.transfers for use in uses if not math.isnan(use.hidden_share))
    return TransferUse(
        transfers=transfers,
        bytes_sent=sum(use.bytes_sent for use in uses),
        bytes_received=sum(use.bytes_received for use in uses),
        hidden_share=hidden_s / transfer_s if transfer_s > 0 else math.nan,
        mean_s=transfer_s / transfers if transfers else math.nan,
        nic_out_utilisation=_over_time([use.nic_out_utilisation for use in uses], parts, 0, end_s),
        nic_in_utilisation=_over_time([use.nic_in_utilisation for use in uses], parts, 1, end_s),
        reservation_waits=sum(use.reservation_waits for use in uses),
        returned_bytes=sum(use.returned_bytes for use in uses),
    )


def _over_time(shares: Sequence[float], parts: Sequence[Ended], side: int, end_s: float) -> float:
    """The mean share of a role's NICs until the last part has ended."""
    if end_s <= 0:
        return math.nan
    instances = [part.roles[side].instances for part in parts]
    carried = sum(
        share * count * part.end_s
        for share, count, part in zip(shares, instances, parts, strict=True)
        if not math.isnan(share)
    )
    return carried / (sum(instances) * end_s)


def _drafts(parts: Sequence[Ended]) -> DraftUse | None:
    uses = [part.drafts for part in parts if part.drafts is not None]
    if not uses:
        return None
    by_position = [[sum(each) for each in zip(*lists, strict=True)] for lists in _by_position(uses)]
    return DraftUse(sum(use.num_drafts for use in uses), tuple(by_position[0]), tuple(by_position[1]))


def _adapters(parts: Sequence[Ended]) -> AdapterUse | None:
    uses = [part.adapters for part in parts if part.adapters is not None]
    if not uses:
        return None
    lost_s = sum(use.lost_s for use in uses)
    return AdapterUse(sum(use.from_host for use in uses), sum(use.from_disk for use in uses), lost_s)


def _by_position(uses: Sequence[DraftUse]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    return [use.drafted for use in uses], [use.accepted for use in uses]
