"""What a run keeps beside its requests where it is asked to: steps, what instances hold over time, KV that moved."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.record.binned import Floats
from kvsim.record.result import Table

STEP_COLUMNS = (
    "instance",
    "start_s",
    "end_s",
    "num_steps",
    "first_step_s",
    "slope_s",
    "prefill_tokens",
    "prefill_seqs",
    "decode_seqs",
    "output_tokens",
    "later_tokens",
    "query_tokens",
    "hit_tokens",
    "kv_tokens",
    "running",
    "waiting",
    "kv_blocks",
)
"""One row per span of equal steps of one instance: only decoding, by the same sequences, or a single step.

``instance`` is a place in ``Detail.instances``. Of ``num_steps`` steps the k-th, from 0 on, takes ``first_step_s + k
slope_s``. ``prefill_tokens`` of ``prefill_seqs`` prompts are computed; ``decode_seqs`` sequences get a token a step.
``output_tokens`` came of it, those that ended a prompt's computation included; ``later_tokens`` of them one step after
their sequence's previous one. ``query_tokens``: of prompts scheduled for the first time, ``hit_tokens`` of them cached
or loaded. ``kv_tokens``: tokens whose KV attention reads, over all its steps: contexts of decoding sequences, and what
stands before a prompt's chunk. ``running``, ``waiting`` requests and ``kv_blocks`` in use are those of the instant at
which its first step was scheduled: with asynchronous scheduling, when the step before began.
"""

CHUNK_COLUMNS = ("request_id", "step", "before", "tokens")
"""One row per part of a prompt that a step computed, behind ``before`` tokens; ``step`` is a row of ``Detail.steps``.
After a preemption what is computed again is in it, and answers up to there.
"""

GAP_COLUMNS = ("instance", "interval_s")
"""One row per token that came longer after its sequence's previous one than the step that gave it took."""

TRANSFER_COLUMNS = ("request_id", "start_s", "end_s", "bytes", "source", "target", "kind")
"""One row per transfer of a request's KV between instances, places in ``Detail.instances``, from its first byte's
leaving to its last byte's arrival; ``kind`` is a place in ``TRANSFER_KINDS``.
"""
TRANSFER_KINDS = ("prompt", "returned", "cancelled")
"""To a decode instance; generated tokens, back to where the prompt was computed; a prompt's that was preempted, whose
``bytes`` moved in vain."""

LOAD_COLUMNS = ("request_id", "tier", "start_s", "end_s", "bytes", "tokens", "instance")
"""One row per load of a part of a prompt from a tier, a place in ``Detail.tiers``, until its last byte's arrival."""

SERVED_COLUMNS = ("request_id", "tier", "tokens")
"""One row per request and tier: prompt tokens that it was served with from there."""

HELD, QUEUED = 0, 1
"""Levels that instances tell of: KV blocks in use, and requests that wait."""


@dataclass(frozen=True)
class DraftUse:
    """Speculative decoding over a whole run, counted as vLLM's ``spec_decode`` counters do: padding is rejected."""

    num_drafts: int
    """Sequences, step by step, of which drafts were verified."""
    drafted: tuple[int, ...]
    """Draft tokens by position."""
    accepted: tuple[int, ...]
    """Drafts among these that were accepted."""


@dataclass(frozen=True)
class InstanceFacts:
    """One instance, and what it counted over the whole run."""

    role: str
    number: int
    """Among those of its role."""
    host: int
    rack: int
    kv_blocks: int
    peak_kv_blocks: int
    """Most blocks in use."""
    preemptions: int
    evicted_blocks: int
    drafts: DraftUse | None = None
    """``None``: it drafts nothing."""


@dataclass(frozen=True)
class Detail:
    """What a run kept; the tables have 8 bytes a value."""

    instances: tuple[InstanceFacts, ...]
    tiers: tuple[str, ...]
    steps: Table
    """``STEP_COLUMNS``, in the order in which the spans ended. A step that had not ended is not there."""
    chunks: Table
    """``CHUNK_COLUMNS``, in the order of the steps."""
    gaps: Table
    transfers: Table
    """``TRANSFER_COLUMNS``, in the order of the arrivals. What had not arrived is not there."""
    loads: Table
    served: Table
    bin_s: float
    """Width of the bins of ``levels``."""
    levels: Floats
    """By ``HELD`` and ``QUEUED``, instance and bin from 0 s on: the integral over the bin, block-seconds and
    request-seconds. The last bin is cut where the run ends.
    """
