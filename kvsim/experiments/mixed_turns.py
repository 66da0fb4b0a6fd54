"""Single prompts and conversations, mixed: what a cache has to serve that is shared by both."""

from __future__ import annotations

import numpy as np

from kvsim.workload.synthetic.assembled import Assembly, Part
from kvsim.workload.synthetic.rag import zipf_ranks
from kvsim.workload.workload import Workload

TURNS, THINK_S, PAUSE_S = 6, 60.0, 5.0
"""Turns of a conversation, the mean of the exponential pause before each next one, and what comes on top of that."""
SYSTEM_PROMPTS, SYSTEM_TOKENS, ANSWER_TOKENS = 8, 1024, 200
DOCUMENTS, DOCUMENT_TOKENS, DOCUMENT_ALPHA = 200, 1536, 1.0
"""What a single prompt begins with: one of so many documents, drawn by Zipf's law."""
QUESTION_TOKENS = (128, 512)
"""Uniform, of both kinds."""
REQUESTS_PER_S = 5.0


def mixed_turns(num_requests: int, single_share: float, seed: int) -> tuple[Workload, np.ndarray]:
    """About ``num_requests`` requests, a share of them single prompts, and which of them are turns of conversations."""
    random, found = np.random.default_rng(seed), Assembly()
    span_s = num_requests / REQUESTS_PER_S
    singles = round(num_requests * single_share)
    conversations = max(0, round((num_requests - singles) / TURNS))
    documents = zipf_ranks(DOCUMENTS, DOCUMENT_ALPHA, 1, singles, random)[:, 0].tolist() if singles else []
    for number, document in enumerate(documents):
        question = int(random.integers(*QUESTION_TOKENS, endpoint=True))
        parts: list[Part] = [(("document", document), DOCUMENT_TOKENS), (None, question)]
        found.add(float(random.uniform(0, span_s)), parts, ANSWER_TOKENS, session=conversations + number)
    for number in range(conversations):
        _conversation(found, number, float(random.uniform(0, span_s)), random)
    workload = found.workload("single prompts and conversations", (), closed=False)
    return workload, workload.session_id < conversations


def _conversation(found: Assembly, number: int, time_s: float, random: np.random.Generator) -> None:
    parts: list[Part] = [(("system", int(random.integers(SYSTEM_PROMPTS))), SYSTEM_TOKENS)]
    for turn in range(TURNS):
        parts.append(((number, "question", turn), int(random.integers(*QUESTION_TOKENS, endpoint=True))))
        answer = (number, "answer", turn)
        found.add(time_s, parts, ANSWER_TOKENS, session=number, answer=answer)
        parts.append((answer, ANSWER_TOKENS))
        time_s += PAUSE_S + float(random.exponential(THINK_S))
