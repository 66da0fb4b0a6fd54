"""A request in the system: its state from arrival to the last token, and the sequence it is on one engine."""

from __future__ import annotations

from typing import Final

from kvsim.acyclic import mypyc_attr
from kvsim.sim.engine.drafting import Drafting
from kvsim.sim.engine.paged import OPEN_END, BlockTable, Path, private_from
from kvsim.workload.request import Request


def block_path(request: Request, block_size: int) -> Path:
    """The request's pieces as entries in block positions; a block belongs to the chain its last token lies in."""
    entries = []
    first = tokens = 0
    for chain, count in request.pieces:
        tokens += count
        end = tokens // block_size
        if end > first:
            entries.append((chain, first, end))
            first = end
    if entries and entries[-1][0] == request.output_chain:
        entries[-1] = (request.output_chain, entries[-1][1], OPEN_END)
    else:
        entries.append((request.output_chain, first, OPEN_END))
    return tuple(entries)


@mypyc_attr(acyclic=True)
class RequestState:
    """What happened to one request, from arrival to its last token. Times in seconds, parts of TTFT as they fall."""

    __slots__ = (
        "computed_tokens",
        "decode_instance",
        "decode_wait_s",
        "first_decode_s",
        "first_token_s",
        "hit_tokens",
        "interference_s",
        "mark_s",
        "measured",
        "output_tokens",
        "path",
        "preemption_s",
        "preemptions",
        "prefill_instance",
        "prefill_s",
        "private_from",
        "proxy_s",
        "queue_s",
        "recomputed_tokens",
        "request",
        "retry_s",
        "tier_load_s",
        "told_tokens",
        "transfer",
        "transfer_s",
        "transferred_bytes",
    )

    def __init__(self, request: Request, path: Path, output_tokens: int) -> None:
        self.request = request
        self.path = path
        self.private_from = private_from(path)
        self.output_tokens = output_tokens
        self.measured = 1
        """0: warm-up, whose inter-token latencies do not count."""
        self.mark_s = request.arrival_s
        """Up to here every second since arrival is accounted for."""
        self.first_token_s = -1.0
        self.retry_s = self.proxy_s = self.queue_s = self.interference_s = self.preemption_s = self.tier_load_s = 0.0
        self.prefill_s = self.transfer_s = self.decode_wait_s = self.first_decode_s = 0.0
        self.hit_tokens = self.computed_tokens = self.recomputed_tokens = self.preemptions = 0
        self.prefill_instance = self.decode_instance = -1
        self.transferred_bytes = 0.0
        self.told_tokens = 0
        """Tokens of the answer that somebody was told of, where anybody is."""
        self.transfer: object | None = None
        """The way of its KV to another instance, of a system that sends some: a ``KvTransfer``."""

    def prefilled(self, start_s: float, end_s: float, alone_s: float, again: bool) -> None:
        """A step from ``start_s`` to ``end_s`` computed a chunk that alone would have taken ``alone_s``.

        ``again``: work lost to a preemption is being redone, and the wait before it is the preemption's too.
        """
        if again:
            self.preemption_s += end_s - self.mark_s
        else:
            self.queue_s += start_s - self.mark_s
            step_s = end_s - start_s
            own_s = alone_s if alone_s < step_s else step_s
            self.prefill_s += own_s
            self.interference_s += step_s - own_s
        self.mark_s = end_s

    def first_decoded(self, start_s: float, end_s: float, alone_s: float) -> None:
        """The first decode step ran, and gave the first token."""
        self.decode_wait_s += start_s - self.mark_s
        step_s = end_s - start_s
        own_s = alone_s if alone_s < step_s else step_s
        self.first_decode_s += own_s
        self.interference_s += step_s - own_s
        self.mark_s = self.first_token_s = end_s


@mypyc_attr(acyclic=True)
class Sequence(BlockTable):
    """A request on one engine: how far it is, and what it holds there."""

    __slots__ = (
        "aborted",
        "aside_tokens",
        "base",
        "computed",
        "decoding",
        "drafting",
        "ending",
        "finish_step",
        "high_water",
        "is_incoming",
        "last_token_s",
        "looked_up",
        "num_tokens",
        "ready",
        "remaining",
        "reservation_end",
        "resumed",
        "serial",
        "skipped_last_step",
        "state",
    )

    def __init__(self, state: RequestState, num_tokens: int, remaining: int) -> None:
        self.path = state.path
        self.private_from = state.private_from
        self.entry = self.hashed = self.loose = 0
        self.holds = []
        self.node = None
        self.groups = None
        self.state = state
        self.num_tokens = num_tokens
        """Prompt and generated tokens."""
        self.remaining = remaining
        """Tokens still to generate here."""
        self.aside_tokens = 0
        """Cached tokens that it had when it last stood aside for a load."""
        self.computed = 0
        """Tokens with KV once the steps scheduled so far have run; while decoding it is ``base`` plus their count."""
        self.ready = 0
        """Tokens of the prompt with KV."""
        self.high_water = 0
        """Most tokens that had KV before a preemption."""
        self.is_incoming = False
        """Not all of its KV has come: what it holds beside hits is not hashed."""
        self.decoding = False
        self.aborted = False
        """Nobody waits for it any more."""
        self.ending = False
        """Whether the last token is scheduled."""
        self.resumed = self.looked_up = False
        self.skipped_last_step = False
        """Whether the step before the one that was scheduled last did not reach it: it has no token on its way."""
        self.base = self.finish_step = self.serial = 0
        self.drafting: Drafting | None = None
        """What is drafted for it, on an engine that decodes speculatively."""
        self.reservation_end = -1
        """Decode step at which its reservation is used up; -1: it has none."""
        self.last_token_s = -1.0


NOBODY: Final[list[Sequence]] = []
"""No sequences: it stays empty. Most steps have nobody in most of their lists, which are not made anew for that."""
