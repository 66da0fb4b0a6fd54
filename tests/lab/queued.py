"""Small queues for tests: engines whose every step takes a second, and requests in a line each."""

from __future__ import annotations

from collections.abc import Sequence

from builders import colocated, plan

from kvsim.lab.kv.queue.budget import Budget
from kvsim.lab.kv.queue.lifecycle import Course, course_of
from kvsim.lab.kv.queue.served_workload import Sent, sent
from kvsim.lab.kv.queue.workload_file import QueuedRequest, QueuedRequests
from kvsim.plan.plan import Plan

BLOCK = 4
ANY = Budget("any", 1)


def request(name: str, prompt: int, answer: int, at_s: float = 0.0, deadline_s: float | None = None) -> QueuedRequest:
    """A request that shares nothing."""
    return QueuedRequest(
        id=name,
        arrival_ms=1000 * at_s,
        prompt_tokens=prompt,
        output_tokens=answer,
        deadline_ms=None if deadline_s is None else 1000 * deadline_s,
    )


def engine(blocks: int, seats: int = 8, **changes: object) -> Plan:
    """Blocks of four tokens, no prefix cache and no steps ahead unless ``changes`` say so."""
    usual: dict[str, object] = {"async_scheduling": False, "enable_prefix_caching": False}
    return colocated(plan(num_blocks=blocks, block_size=BLOCK, max_num_seqs=seats, **(usual | changes)))


def of(requests: Sequence[QueuedRequest], tokenise_us_per_token: float = 0.0) -> Sent:
    """The requests as a file has them."""
    return sent(QueuedRequests(name="small", requests=tuple(requests)), tokenise_us_per_token)


def served(requests: Sequence[QueuedRequest], scheduler: str, found: Plan) -> Course:
    """What becomes of them."""
    return course_of(of(requests), found, ANY, scheduler)
