"""A run as polars frames: its requests, and where it kept them its steps, its timeline, its instances, its transfers.

Times are simulated seconds from the start of the run, bytes and tokens are counts, shares lie between 0 and 1. What is
not known, or not defined, is null. ``.to_pandas()`` is polars' own and needs pandas and pyarrow, which kvsim does not
ask for.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from kvsim.errors import KvsimError
from kvsim.record.binned import Floats
from kvsim.record.detail import TRANSFER_KINDS, Detail
from kvsim.record.result import COLUMNS, SystemResult, Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s
from kvsim.record.timeline import edges_s, sums

FRACTIONAL = ("transferred_bytes", "bytes")
"""Columns without a time in them that are not whole numbers: compression divides bytes."""


def requests_frame(result: SystemResult) -> pl.DataFrame:
    """One row per completed request, in the order of request ids, which is that of the workload.

    - ``request_id``: its row in the workload.
    - ``arrival_s``, ``first_token_s``, ``finish_s``: when it came, and when its first and last token did.
    - ``ttft_s``: time to first token, from arrival; ``e2e_s``: to the last; ``tpot_s``: the mean time per output token
      after the first, ``(E2E - TTFT) / (output_tokens - 1)``, null for an answer of one token.
    - ``prompt_tokens``, ``output_tokens``.
    - ``hit_tokens``: of the prompt, found in the instance's own cache; ``loaded_tokens``: loaded from tiers;
      ``dram_tokens``, ``eic_tokens``, ``ssd_tokens``: from which, where the run has tiers and kept its detail;
      ``computed_tokens``: the rest. ``recomputed_tokens``: again after a preemption. ``preemptions``: how often.
    - ``prefill_instance``, ``decode_instance``: numbers among the instances of the role; the same in a unified system.
    - ``transferred_bytes``: of KV, between the two.
    - ``retry_s``, ``proxy_s``, ``queue_s``, ``interference_s``, ``preemption_s``, ``tier_load_s``, ``prefill_s``,
      ``transfer_s``, ``decode_wait_s``, ``first_decode_s``: the parts of TTFT, which sum to it.
    - ``measured``: whether it counts in the report's latencies, being no warm-up.
    """
    table = result.table
    derived = {"ttft_s": ttft_s(table), "tpot_s": tpot_s(table), "e2e_s": e2e_s(table)}
    by_tier = {} if result.detail is None else _served_by_tier(result.detail, table)
    frame = _typed({name: table[name] for name in COLUMNS} | derived | by_tier)
    return frame.with_columns(pl.Series("measured", result.measured)).sort("request_id")


def steps_frame(result: SystemResult) -> pl.DataFrame:
    """One row per span of equal steps of one instance, by start: steps that only decode, with the same sequences, or
    one step. A row per step where the run was ``stepwise``. Needs a run that kept its detail.

    - ``role``, ``instance``: ``prefill``, ``decode`` or ``colocated``, and the number among those.
    - ``start_s``, ``end_s``, ``num_steps``; of these the k-th, from 0 on, takes ``first_step_s + k * slope_s``.
    - ``prefill_tokens`` of ``prefill_seqs`` prompts are computed; ``decode_seqs`` sequences get a token in each step.
    - ``output_tokens``: generated in all of it; ``later_tokens``: of these, one step after the sequence's one before.
    - ``query_tokens``: of prompts that were scheduled for the first time; ``hit_tokens``: of these, cached or loaded.
    - ``kv_tokens``: tokens whose KV attention reads, summed over steps: contexts of decoding sequences, and what stands
      before a prompt's chunk.
    - ``running``, ``waiting``: requests; ``kv_blocks``: in use; all when the first step was scheduled.
    """
    detail = detail_of(result)
    return _placed(detail, detail.steps).sort("start_s", "role", "instance")


def timeline_frame(result: SystemResult) -> pl.DataFrame:
    """At most 600 equal bins of time, the last of them cut where the run ends: for the whole system, then for each role
    where there are two, then for each instance. Needs a run that kept its detail.

    - ``scope``: ``all``, ``role`` or ``instance``; ``role`` and ``instance``: null where the row is of more than one.
    - ``start_s``, ``end_s``: of the bin.
    - ``running``, ``waiting``: mean number of requests, over time, in the step under way, and in no step yet. Waiting
      are those in an engine's queue, or set aside by it while something of them is loaded; not those that are loaded
      before they are queued, and not those whose KV is on its way to a decode instance.
    - ``kv_usage``: mean share of KV blocks in use; ``busy``: share of the time that a step ran.
    - ``prefill_tokens``, ``output_tokens``: computed of prompts, and generated, by the ends of the steps that did;
      ``prefill_tokens_per_s``, ``output_tokens_per_s``: over the bin.
    - ``query_tokens``, ``hit_tokens``: of the prompts that were scheduled for the first time in the bin, and of them
      found in a cache or loaded; ``hit_rate``: the share, null where none were.
    """
    detail = detail_of(result)
    edges = edges_s(detail, result.end_s)
    blocks = np.array([facts.kv_blocks for facts in detail.instances], dtype=np.float64)
    by_instance = sums(detail)
    frames = []
    for scope, role, instance, rows in _scopes(detail):
        own = {name: values[rows].sum(axis=0) for name, values in by_instance.items()}
        labels = [
            pl.lit(scope).alias("scope"),
            pl.lit(role, dtype=pl.String).alias("role"),
            pl.lit(instance, dtype=pl.Int64).alias("instance"),
        ]
        frames.append(_bins(edges, own, float(blocks[rows].sum()), len(rows)).select(*labels, pl.all()))
    return pl.concat(frames)


def instances_frame(result: SystemResult) -> pl.DataFrame:
    """One row per instance, over the whole run. Needs a run that kept its detail.

    - ``role``, ``instance``: its number among those of the role; ``host``, ``rack``: where it stands.
    - ``requests``: completed ones that it served; ``prompt_tokens``: of these.
    - ``steps``; ``busy``: share of the time that one ran.
    - ``prefill_tokens``, ``output_tokens``: computed of prompts, and generated, by it.
    - ``query_tokens``, ``hit_tokens``, ``hit_rate``: of prompts when they were scheduled for the first time there; null
      where no prompt was.
    - ``preemptions``; ``evicted_blocks``: cached ones that were overwritten.
    - ``kv_blocks``: there are; ``kv_usage``: mean share in use; ``kv_usage_peak``: the most.
    - ``running``, ``waiting``: mean number of requests, as in the timeline.
    """
    detail = detail_of(result)
    totals = {name: values.sum(axis=1) for name, values in sums(detail).items()}
    steps = np.bincount(
        detail.steps["instance"].astype(np.int64), detail.steps["num_steps"], minlength=len(detail.instances)
    )
    rows = []
    for place, facts in enumerate(detail.instances):
        own = {name: float(values[place]) for name, values in totals.items()}
        served = result.table[f"{'decode' if facts.role == 'decode' else 'prefill'}_instance"] == facts.number
        rows.append(
            {
                "role": facts.role,
                "instance": facts.number,
                "host": facts.host,
                "rack": facts.rack,
                "requests": int(served.sum()),
                "prompt_tokens": int(result.table["prompt_tokens"][served].sum()),
                "steps": int(steps[place]),
                "busy": _share(own["busy_s"], result.end_s),
                "prefill_tokens": int(own["prefill_tokens"]),
                "output_tokens": int(own["output_tokens"]),
                "query_tokens": int(own["query_tokens"]),
                "hit_tokens": int(own["hit_tokens"]),
                "hit_rate": _share(own["hit_tokens"], own["query_tokens"]),
                "preemptions": facts.preemptions,
                "evicted_blocks": facts.evicted_blocks,
                "kv_blocks": facts.kv_blocks,
                "kv_usage": _share(own["held_block_s"], facts.kv_blocks * result.end_s),
                "kv_usage_peak": _share(facts.peak_kv_blocks, facts.kv_blocks),
                "running": _share(own["running_s"], result.end_s),
                "waiting": _share(own["waiting_s"], result.end_s),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def transfers_frame(result: SystemResult) -> pl.DataFrame:
    """One row per transfer of KV between instances, by its start. Needs a run that kept its detail.

    - ``request_id``; ``start_s``: when its first byte left; ``end_s``: when its last one had come.
    - ``bytes``: less than the prompt's where the target had some of it.
    - ``source_role``, ``source``, ``target_role``, ``target``: instances.
    - ``kind``: ``prompt``, to a decode instance; ``returned``, generated tokens on their way back; ``cancelled``, a
      prompt's that was preempted on its way.
    """
    detail = detail_of(result)
    frame = _typed(detail.transfers)
    for end in ("source", "target"):
        frame = _with_instances(detail, frame, end, f"{end}_role", end)
    return frame.with_columns(_named("kind", TRANSFER_KINDS)).sort("start_s", "request_id")


def loads_frame(result: SystemResult) -> pl.DataFrame:
    """One row per part of a prompt that came from a tier, by its start. Needs a run that kept its detail.

    ``request_id``; ``tier``: ``dram``, ``eic`` or ``ssd``; ``start_s``, ``end_s``: when it was asked for, and when its
    last byte had come; ``bytes``; ``tokens``; ``role`` and ``instance``: who asked for it.
    """
    detail = detail_of(result)
    return _placed(detail, detail.loads).with_columns(_named("tier", detail.tiers)).sort("start_s", "request_id")


def detail_of(result: SystemResult) -> Detail:
    """What the run kept; raises a ``KvsimError`` where it was not asked to."""
    if result.detail is None:
        raise KvsimError(
            f"the run of '{result.name}' kept its requests alone: its detail is to be asked for beforehand"
        )
    return result.detail


def _scopes(detail: Detail) -> list[tuple[str, str | None, int | None, list[int]]]:
    """Scope, role and number, and the places of the instances that are summed."""
    roles = list(dict.fromkeys(facts.role for facts in detail.instances))
    places = list(enumerate(detail.instances))
    found: list[tuple[str, str | None, int | None, list[int]]] = [("all", None, None, [place for place, _ in places])]
    if len(roles) > 1:
        found += [("role", role, None, [place for place, facts in places if facts.role == role]) for role in roles]
    return found + [("instance", facts.role, facts.number, [place]) for place, facts in places]


def _bins(edges: Floats, own: dict[str, Floats], blocks: float, instances: int) -> pl.DataFrame:
    width_s = np.diff(edges)
    counts = ("prefill_tokens", "output_tokens", "query_tokens", "hit_tokens")
    columns = {
        "start_s": edges[:-1],
        "end_s": edges[1:],
        "running": _over(own["running_s"], width_s),
        "waiting": _over(own["waiting_s"], width_s),
        "kv_usage": _over(own["held_block_s"], width_s * blocks),
        "busy": _over(own["busy_s"], width_s * instances),
        "prefill_tokens_per_s": _over(own["prefill_tokens"], width_s),
        "output_tokens_per_s": _over(own["output_tokens"], width_s),
        "hit_rate": _over(own["hit_tokens"], own["query_tokens"]),
    }
    frame = pl.DataFrame(columns | {name: own[name] for name in counts}).fill_nan(None)
    return frame.with_columns(pl.col(name).round().cast(pl.Int64) for name in counts)


def _over(part: Floats, whole: Floats) -> Floats:
    found = np.full(part.shape, np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _served_by_tier(detail: Detail, table: Table) -> Table:
    """Tokens of each row of the requests' ``table`` that came from each tier."""
    served = detail.served
    ids = table["request_id"].astype(np.int64)
    size = int(ids.max(initial=-1)) + 1
    found = {}
    for tier, name in enumerate(detail.tiers):
        own = served["tier"] == tier
        by_id = np.bincount(served["request_id"][own].astype(np.int64), served["tokens"][own], minlength=size)
        found[f"{name}_tokens"] = by_id[ids].astype(np.float64)
    return found


def _typed(table: Table) -> pl.DataFrame:
    """Counts as whole numbers, and null for what is not a number."""
    whole = [name for name in table if not name.endswith("_s") and name not in FRACTIONAL]
    return pl.DataFrame(table).fill_nan(None).with_columns(pl.col(name).cast(pl.Int64) for name in whole)


def _placed(detail: Detail, table: Table) -> pl.DataFrame:
    """With role and number in place of the instance."""
    frame = _with_instances(detail, _typed(table), "instance", "role", "instance")
    return frame.select("role", "instance", pl.exclude("role", "instance"))


def _with_instances(detail: Detail, frame: pl.DataFrame, column: str, role: str, number: str) -> pl.DataFrame:
    places = frame[column].to_numpy()
    roles = np.array([facts.role for facts in detail.instances])
    numbers = np.array([facts.number for facts in detail.instances], dtype=np.int64)
    return frame.with_columns(pl.Series(role, roles[places], dtype=pl.String), pl.Series(number, numbers[places]))


def _named(column: str, names: tuple[str, ...]) -> pl.Expr:
    return pl.col(column).replace_strict(dict(enumerate(names)), return_dtype=pl.String)
