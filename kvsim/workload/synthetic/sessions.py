"""Sessions over shared prompts and documents: the traffic of the single node and of clusters with memory pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvsim import room
from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.assembled import Assembly, Part
from kvsim.workload.synthetic.rag import DOCUMENT_TOKENS, check_documents, lognormal, zipf_ranks
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.config.schema import ChatTrace

OUTPUT_TOKENS_CV = 0.6
TURN_BYTES, REQUEST_BYTES = 31, 2_900
"""Memory that drawing takes, of every turn that is under way and of every request that is kept."""
_LIVES_BEFORE = 4
"""Mean lives of a session before time 0 from when on they start: hardly any of an earlier one would be left."""


def sessions(
    traffic: ChatTrace,
    section: str,
    num_requests: int,
    rate_per_s: float,
    seed: int,
    answer_s_per_token: float | None = None,
) -> Workload:
    """The first ``num_requests`` turns of stationary sessions at ``rate_per_s`` from time 0 on.

    Every prompt of a session begins with its system prompt and its documents, and carries all earlier questions and
    answers. Sessions start as a Poisson process, also before time 0: of those that are under way then, only the turns
    still to come are sent. A turn follows the one before after its answer and an exponential pause, whatever the
    system does; answers are taken to last ``answer_s_per_token``. ``section`` names ``traffic`` in errors. Raises
    ``WorkloadError`` for numbers that cannot go together.
    """
    _check(traffic, section, num_requests)
    pace_s = assumed_pace_s(answer_s_per_token)
    random = np.random.default_rng(seed)
    turns = traffic.turns_per_session
    before_s = _LIVES_BEFORE * (turns - 1) * (traffic.think_time_s + traffic.output_tokens_mean * pace_s)
    wanted = num_requests / turns + before_s * rate_per_s / turns
    drawn = int(wanted + 4 * wanted**0.5) + 16
    _check_room(section, num_requests, rate_per_s, drawn * turns)
    starts_s = np.cumsum(random.exponential(turns / rate_per_s, drawn)) - before_s
    answers = lognormal(traffic.output_tokens_mean, OUTPUT_TOKENS_CV, drawn * turns, random).reshape(drawn, turns)
    pauses_s = random.exponential(traffic.think_time_s, (drawn, turns))
    arrival_s = starts_s[:, None] + np.cumsum(answers * pace_s + pauses_s, axis=1)
    arrival_s -= (answers * pace_s + pauses_s)[:, :1]
    last_s = np.partition(arrival_s[arrival_s >= 0], num_requests - 1)[num_requests - 1]
    heard = ((arrival_s >= 0) & (arrival_s <= last_s)).any(axis=1)
    answers, arrival_s, drawn = answers[heard], arrival_s[heard], int(heard.sum())
    check_documents(traffic.num_shared_docs, drawn)
    documents = random.integers(
        DOCUMENT_TOKENS // 2, 3 * DOCUMENT_TOKENS // 2, max(traffic.num_shared_docs, 1), endpoint=True
    )
    retrieved = zipf_ranks(len(documents), traffic.doc_zipf_alpha, traffic.num_rag_chunks, drawn, random)
    system = random.integers(traffic.num_system_prompts, size=drawn)
    new = random.integers(traffic.prompt_tokens_min, traffic.prompt_tokens_max, (drawn, turns), endpoint=True)
    found = Assembly()
    for session in range(drawn):
        head: list[Part] = [(("system", int(system[session])), traffic.initial_context_tokens)]
        head += [(("document", doc), int(documents[doc])) for doc in retrieved[session].tolist()]
        _session(found, session, head, new[session], answers[session], arrival_s[session], last_s)
    documents_note = f"{traffic.num_rag_chunks} of {traffic.num_shared_docs} documents"
    note = f"sessions of {turns} turns behind {traffic.num_system_prompts} system prompts and {documents_note}"
    workload = found.workload("synthetic sessions", (note,), closed=False)
    return workload.limited(num_requests)


def _session(
    found: Assembly,
    session: int,
    head: list[Part],
    new: np.ndarray,
    answers: np.ndarray,
    arrival_s: np.ndarray,
    last_s: float,
) -> None:
    parts = list(head)
    for turn, time_s in enumerate(arrival_s.tolist()):
        if time_s > last_s:
            return
        parts.append(((session, "question", turn), int(new[turn])))
        answer = (session, "answer", turn)
        if time_s >= 0:
            found.add(time_s, parts, int(answers[turn]), session=session, answer=answer)
        parts.append((answer, int(answers[turn])))


def most_requests(traffic: ChatTrace) -> int:
    """Requests that the configured sessions make."""
    return traffic.num_sessions * traffic.turns_per_session


def _check_room(section: str, num_requests: int, rate_per_s: float, turns: int) -> None:
    kept_bytes, drawn_bytes = num_requests * REQUEST_BYTES, turns * TURN_BYTES
    if drawn_bytes > kept_bytes:
        share = (room.available_bytes() - kept_bytes) / drawn_bytes
        fits = f"{room.about(share * rate_per_s)} requests/s"
    else:
        fits = f"{room.about(room.most(REQUEST_BYTES, drawn_bytes))} requests"
    what = f"{section}: {num_requests:,} requests at {rate_per_s:,.6g} a second, from sessions of {turns:,} turns"
    room.require(kept_bytes + drawn_bytes, what, f"up to about {fits} would fit")


def _check(traffic: ChatTrace, section: str, num_requests: int) -> None:
    if num_requests > most_requests(traffic):
        raise WorkloadError(
            f"{section}: {num_requests:,} requests are more than num_sessions x turns_per_session = "
            f"{most_requests(traffic):,}"
        )
    if traffic.num_rag_chunks > traffic.num_shared_docs:
        raise WorkloadError(
            f"{section}.num_rag_chunks is {traffic.num_rag_chunks}; allowed: up to num_shared_docs = "
            f"{traffic.num_shared_docs}"
        )
