"""Prompts as they are sent: the tokens of their pieces, and in place of earlier answers what the server answered."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from kvsim.measure.prompt_tokens import ChainTokens, Tokens
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload


class Part(NamedTuple):
    """A run of a prompt's tokens."""

    ids: Tokens
    is_answer: bool
    """Whether the server has answered these."""


class Prompts:
    """The prompts of a workload, made as they are wanted.

    A position of a chain has one token for good: the one it was sent with, or answered with, whichever came first. So
    prompts share what their pieces say also where an answer came too late, was shorter than the workload has it, or is
    not known; tokens that stand for such an answer are counted.
    """

    def __init__(self, workload: Workload, alphabet: Tokens, seed: int, content: Workload | None = None) -> None:
        """``content``: what ``workload`` is a part of, so that tokens are those of the same chains in its other parts;
        ``None``: it is all there is."""
        self._own = ChainTokens(workload if content is None else content, alphabet, seed)
        self.overlap_tokens = self._own.overlap_tokens
        self._starts, self._held = _answers(workload)
        self._known: dict[int, Tokens] = {}
        """Tokens that are settled, of the chains that prompts have answers on."""
        self._real: dict[int, list[tuple[int, int]]] = defaultdict(list)
        """Positions of these chains that the server has answered."""
        self._expected: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        """Positions that answers are to take, and the request of each."""
        self._answered: set[int] = set()
        for row in np.flatnonzero(self._held).tolist():
            chain, start = int(workload.output_chain[row]), int(self._starts[row])
            self._expected[chain].append((start, start + int(workload.output_tokens[row]), row))
        self.answer_tokens, self.made_up_tokens = 0, 0
        """Tokens of prompts that were to be earlier answers; and how many of these the server did not answer."""

    def holds_answer_of(self, request: Request) -> bool:
        """Whether a later prompt has the answer to this one in it."""
        return bool(self._held[request.request_id])

    def is_settled(self, request: Request) -> bool:
        """Whether every answer in this prompt is known by now, or given up."""
        for chain, tokens in request.pieces:
            if chain in self._expected and (known := len(self._known.get(chain, ()))) < tokens:
                wanted = (row for begin, end, row in self._expected[chain] if known < end and begin < tokens)
                if any(row not in self._answered for row in wanted):
                    return False
        return True

    def parts(self, request: Request) -> list[Part]:
        """The prompt, cut where answers begin and end. What it has is settled from then on."""
        found: list[Part] = []
        for chain, tokens in request.pieces:
            if chain not in self._expected:
                found.append(Part(self._own.head(chain, tokens), False))
                continue
            ids = self._settled(chain, tokens)
            at = 0
            for begin, end in self._real.get(chain, ()):
                if begin >= tokens:
                    break
                found.append(Part(ids[at:begin], False))
                found.append(Part(ids[begin : min(end, tokens)], True))
                at = min(end, tokens)
            found.append(Part(ids[at:], False))
            self.answer_tokens += sum(max(0, min(end, tokens) - begin) for begin, end, _ in self._expected[chain])
        return _joined(found)

    def _settled(self, chain: int, tokens: int) -> Tokens:
        known = self._known.get(chain, np.zeros(0, dtype=np.int64))
        if len(known) < tokens:
            missing = (max(0, min(end, tokens) - max(begin, len(known))) for begin, end, _ in self._expected[chain])
            self.made_up_tokens += sum(missing)
            known = np.concatenate((known, self._own.head(chain, tokens)[len(known) :]))
            self._known[chain] = known
        return known[:tokens]

    def answered(self, request: Request, ids: Tokens | None) -> None:
        """The answer to ``request``, where a later prompt has it; ``None``: not known."""
        row, chain = request.request_id, request.output_chain
        if not self._held[row]:
            return
        self._answered.add(row)
        known, start = self._known.get(chain, np.zeros(0, dtype=np.int64)), int(self._starts[row])
        if ids is None or not len(ids) or len(known) != start:
            return
        self._known[chain] = np.concatenate((known, ids[: request.output_tokens]))
        self._real[chain].append((start, len(self._known[chain])))


def _answers(workload: Workload) -> tuple[Tokens, np.ndarray]:
    """Where on its chain each answer begins, and whether a prompt reaches beyond that."""
    count = len(workload)
    starts, held = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    if not len(workload.piece_chain):
        return starts, held
    counts = np.diff(workload.piece_offsets)
    last = np.maximum(workload.piece_offsets[1:] - 1, 0)
    goes_on = (counts > 0) & (workload.piece_chain[last] == workload.output_chain)
    starts[goes_on] = workload.piece_tokens[last][goes_on]
    chains, at = np.unique(workload.piece_chain, return_inverse=True)
    reach = np.zeros(len(chains), dtype=np.int64)
    np.maximum.at(reach, at, workload.piece_tokens.astype(np.int64))
    place = np.minimum(np.searchsorted(chains, workload.output_chain), len(chains) - 1)
    there = chains[place] == workload.output_chain
    held = there & (reach[place] > starts)
    return starts, held


def _joined(parts: list[Part]) -> list[Part]:
    """Without empty ones, and with neighbours of one kind as one."""
    found: list[Part] = []
    for part in parts:
        if not len(part.ids):
            continue
        if found and found[-1].is_answer == part.is_answer:
            found[-1] = Part(np.concatenate((found[-1].ids, part.ids)), part.is_answer)
        else:
            found.append(part)
    return found
