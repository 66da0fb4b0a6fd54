"""The way of one request's KV from the instance that computes its prompt to the one that generates its answer."""

from __future__ import annotations

from kvsim.record.detail import TRANSFER_KINDS
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.log.detail import DetailLog
from kvsim.sim.network.stream import Stream


class KvTransfer:
    """One request's KV between a prefill and a decode instance, from its first chunk until the answer begins."""

    __slots__ = (
        "awaits_prompt",
        "bytes_before",
        "first_is_there",
        "hidden_s",
        "is_vain",
        "joined",
        "landed",
        "prefill",
        "prefilled_s",
        "present_blocks",
        "ready_tokens",
        "sent_s",
        "sent_tokens",
        "source",
        "stream",
        "target",
    )

    def __init__(self, source: Engine, prefill: Sequence) -> None:
        self.source = source
        self.prefill = prefill
        """The request as a sequence of the source; once all has landed, as one of the target."""
        self.awaits_prompt = False
        """Whether the prompt is not whole yet."""
        self.target: tuple[Engine, Sequence] | None = None
        """The decode instance, and the request as a sequence there."""
        self.stream: Stream | None = None
        """Until it has landed."""
        self.present_blocks = 0
        """Blocks of the prompt that the decode instance had when the others were reserved."""
        self.ready_tokens = 0.0
        """Tokens of the prompt that may leave; a share of their layers counts as that share of a token."""
        self.sent_tokens = 0.0
        """Tokens of the prompt that are sent, or were there when blocks were reserved."""
        self.bytes_before = prefill.state.transferred_bytes
        """What an earlier attempt, which was preempted, has sent in vain."""
        self.sent_s = 0.0
        """When its first byte left."""
        self.prefilled_s = -1.0
        """When the whole prompt was computed; -1 while it is not."""
        self.hidden_s = 0.0
        """How long it had been on the links when the whole prompt was computed."""
        self.first_is_there = False
        """Whether the first piece has arrived, for those who start with it."""
        self.is_vain = False
        """Whether the request's client has gone."""
        self.landed = False
        """Whether all of it has arrived."""
        self.joined = False
        """Whether decode has been told to start."""


def transfer_of(state: RequestState) -> KvTransfer | None:
    """The transfer of a request of which anything has left, or could, until its answer is complete."""
    transfer = state.transfer
    assert transfer is None or isinstance(transfer, KvTransfer)
    return transfer


def begun_of(state: RequestState) -> KvTransfer | None:
    """The transfer of a request whose prompt is not whole yet."""
    transfer = transfer_of(state)
    return transfer if transfer is not None and transfer.awaits_prompt else None


def tell_moved(
    detail: DetailLog | None,
    request_id: int,
    sent_s: float,
    now_s: float,
    num_bytes: float,
    source: int,
    target: int,
    kind: str,
) -> None:
    """Tell of KV that has moved from the place of one instance to another's, where somebody looks closely."""
    if detail is not None:
        detail.transfers.add((request_id, sent_s, now_s, num_bytes, source, target, TRANSFER_KINDS.index(kind)))
