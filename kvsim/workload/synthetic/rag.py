"""Retrieval-augmented generation: a system prompt, a few documents drawn by Zipf's law, a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvsim import room
from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.arrivals import arrival_times
from kvsim.workload.synthetic.assembled import Assembly
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.config.schema import PdTrace

DOCUMENT_TOKENS = 512
"""Mean length of a retrieved chunk, a usual size for splitting documents; drawn once each, within half of it."""

REQUEST_BYTES, RANK_BYTES = 1_900, 24
"""Memory that drawing takes, of a request and of a document that one of a batch of draws may retrieve."""
_BATCH = 4096


def rag(traffic: PdTrace, num_requests: int, rate_per_s: float, seed: int, arrivals: str = "poisson") -> Workload:
    """``num_requests`` questions, each behind ``num_rag_chunks`` different documents in the order retrieved.

    Documents in another order are another prefix: only what two prompts begin with alike is shared. Question and
    answer lengths are those of ``pd_trace``. Raises ``WorkloadError`` where more documents are asked for than exist.
    """
    if traffic.num_rag_chunks > traffic.num_shared_docs:
        raise WorkloadError(
            f"pd_trace.num_rag_chunks is {traffic.num_rag_chunks}; allowed: up to num_shared_docs = "
            f"{traffic.num_shared_docs}"
        )
    most = room.about(room.most(REQUEST_BYTES))
    room.require(num_requests * REQUEST_BYTES, f"{num_requests:,} RAG requests", f"up to about {most} would fit")
    check_documents(traffic.num_shared_docs, num_requests)
    random = np.random.default_rng(seed)
    times_s = arrival_times(arrivals, num_requests, rate_per_s, random)
    documents = random.integers(DOCUMENT_TOKENS // 2, 3 * DOCUMENT_TOKENS // 2, traffic.num_shared_docs, endpoint=True)
    num, draws = traffic.num_shared_docs, traffic.num_rag_chunks
    retrieved = zipf_ranks(num, traffic.doc_zipf_alpha, draws, num_requests, random)
    system = random.integers(traffic.num_system_prompts, size=num_requests)
    question = lognormal(traffic.new_tokens_mean, traffic.new_tokens_cv, num_requests, random)
    answer = lognormal(traffic.output_tokens_mean, traffic.output_tokens_cv, num_requests, random)
    found = Assembly()
    for i in range(num_requests):
        parts = [(("system", int(system[i])), traffic.system_prompt_tokens)]
        parts += [(("document", doc), int(documents[doc])) for doc in retrieved[i].tolist()]
        found.add(float(times_s[i]), [*parts, (None, int(question[i]))], int(answer[i]))
    note = f"{traffic.num_rag_chunks} of {traffic.num_shared_docs} documents a request, by Zipf's law with exponent "
    return found.workload("synthetic RAG", (note + f"{traffic.doc_zipf_alpha:g}",), closed=False)


def check_documents(num: int, rows: int) -> None:
    """Raise ``CapacityError`` where so many documents to draw from for so many prompts take too much memory."""
    each_bytes = min(_BATCH, rows) * RANK_BYTES
    fits = f"up to about {room.about(room.most(each_bytes))} would fit"
    room.require(num * each_bytes, f"draws from num_shared_docs = {num:,}", fits)


def zipf_ranks(num: int, alpha: float, draws: int, rows: int, random: np.random.Generator) -> np.ndarray:
    """``rows`` x ``draws`` different ranks of ``num``, rank k with weight (k + 1)^-alpha.

    The largest of log-weights plus Gumbel noise are a draw without replacement in its order (Yellott 1977).
    """
    weights = -alpha * np.log(np.arange(1, num + 1))
    chosen = [
        _largest(weights + random.gumbel(size=(min(_BATCH, rows - start), num)), draws)
        for start in range(0, rows, _BATCH)
    ]
    return np.concatenate(chosen) if chosen else np.zeros((0, draws), dtype=np.int64)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """For each row, the columns of the ``count`` largest values, the largest first."""
    num = values.shape[1]
    columns = np.argpartition(values, min(num - count, num - 1), axis=1)[:, num - count :]
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def lognormal(mean: float, cv: float, size: int, random: np.random.Generator) -> np.ndarray:
    """Whole numbers from 1 up with a lognormal's mean and coefficient of variation."""
    variance = np.log1p(cv**2)
    drawn = random.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), size)
    return np.maximum(np.rint(drawn), 1).astype(np.int64)
