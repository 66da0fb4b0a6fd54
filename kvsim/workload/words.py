"""Workloads in one word: ``sharegpt``, ``chat``, ``in=2000,out=300,prefix=800:10``, or a trace file.

Lengths are in tokens, and where they come from stands at each word; ``trace/README.md`` has the table.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.lengths import Lengths, LogNormal, Uniform, drawn_pairs, lengths_of_word
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.synthetic.arrivals import arrival_times
from kvsim.workload.synthetic.conversations import Conversation, conversations
from kvsim.workload.synthetic.prefixes import NOTHING_SHARED, Prefixes, prefixed
from kvsim.workload.synthetic.servegen import Client, from_clients, is_clients, read_clients
from kvsim.workload.synthetic.users import as_users, at_most, check_concurrency
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.tracefile import TraceFile
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.config import Config
    from kvsim.workload.traffic import TraceTraffic

DESCRIBED_REQUESTS = 4000
"""Requests that are drawn to say what a word asks for."""


@dataclass(frozen=True)
class Sizes:
    """What the requests of a workload are like."""

    requests: int
    prompt_mean: float
    prompt_most: int
    output_mean: float
    output_most: int
    hit_rate: float | None
    """Share of prompt tokens that a cache that forgets nothing has; ``None``: not known."""

    @classmethod
    def of(cls, workload: Workload) -> Sizes:
        prompts, answers = workload.prompt_tokens, workload.output_tokens
        return cls(
            len(workload),
            float(prompts.mean()),
            int(prompts.max()),
            float(answers.mean()),
            int(answers.max()),
            workload.info.infinite_cache_hit_rate_tokens,
        )

    @property
    def words(self) -> str:
        """One clause for a reader."""
        said = (
            f"prompts of {self.prompt_mean:,.0f} tokens in the mean, the longest {self.prompt_most:,}; answers of "
            f"{self.output_mean:,.0f}, the longest {self.output_most:,}"
        )
        return said if self.hit_rate is None else f"{said}; a cache that forgets nothing hits {self.hit_rate:.1%}"


class WorkloadWord(ABC):
    """A kind of traffic, at any rate or for any number of users; the same seed gives the same requests."""

    text: str
    """As it was asked for."""
    what: str
    """What it stands for, and where its figures come from."""

    @abstractmethod
    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        """``num_requests`` requests that arrive at random, ``rate_per_s`` in the mean.

        An open loop; of agents it is the sessions that do, and their turns wait for answers.
        """

    @abstractmethod
    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        """A closed loop: ``concurrency`` users, each of whom sends its next request when its last one has ended."""

    @cached_property
    def sizes(self) -> Sizes:
        """Mean and largest lengths of ``DESCRIBED_REQUESTS`` requests, of a trace of all."""
        return Sizes.of(self.generate(DESCRIBED_REQUESTS, 1.0, 0))

    def describe(self) -> str:
        """One line: what it is, the mean and the largest lengths."""
        return f"{self.text}: {self.what}; of {self.sizes.requests:,} requests: {self.sizes.words}"


@dataclass
class _Single(WorkloadWord):
    """Requests that know nothing of each other but perhaps a shared prefix."""

    text: str
    what: str
    prompts: Lengths
    answers: Lengths
    most_tokens: int | None = None
    """Prompt and answer together."""
    prefixes: Prefixes = NOTHING_SHARED

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        _check_requests(num_requests)
        random = np.random.default_rng(seed)
        arrival_s = arrival_times("poisson", num_requests, rate_per_s, random)
        prompts, answers = drawn_pairs(self.prompts, self.answers, self.most_tokens, num_requests, random)
        return prefixed(arrival_s, prompts, answers, self.prefixes, random, self.text)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        return at_most(self.generate(num_requests, 1.0, seed), concurrency)


@dataclass
class _Sessions(WorkloadWord):
    """Sessions of several turns."""

    text: str
    what: str
    drawn: Callable[[int, float, int], Workload]
    """Requests, rate and seed to an open loop."""
    between_s: float
    """Mean pause of a user between two sessions."""

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        _check_requests(num_requests)
        return self.drawn(num_requests, rate_per_s, seed)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        """Users begin in the midst of sessions, as many as are under way at any time."""
        check_concurrency(concurrency)
        pace_s = assumed_pace_s(None)
        rate_per_s = concurrency / max(self.sizes.output_mean * pace_s + self.between_s, pace_s)
        return as_users(self.generate(num_requests, rate_per_s, seed), concurrency, self.between_s, pace_s, seed)


@dataclass
class _Trace(WorkloadWord):
    """A trace file, with the sessions and the content that it has."""

    text: str
    what: str
    reading: Reading

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        """The trace's first requests: as few copies side by side as reach the rate, stretched to hit it.

        Copies that have fewer requests are laid end to end from a random moment on.
        """
        _check_requests(num_requests)
        copies = self._traffic.copies_at(rate_per_s)
        drawn = self._traffic.sample if copies * len(self._whole) >= num_requests else self._traffic.part
        return drawn(rate_per_s, num_requests, copies, seed)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        """The trace's first requests in their order, whatever their times; not more than it has."""
        _check_requests(num_requests)
        return at_most(self._whole.limited(num_requests), concurrency)

    @cached_property
    def _traffic(self) -> TraceTraffic:
        from kvsim.workload.traffic import TraceSource, TraceTraffic

        return TraceTraffic(TraceSource(self.text, self.reading), None, 0)

    @cached_property
    def _whole(self) -> Workload:
        return self._traffic.population()

    @cached_property
    def sizes(self) -> Sizes:
        return Sizes.of(self._whole)


@dataclass
class _Clients(WorkloadWord):
    """A folder of ServeGen's clients."""

    text: str
    what: str = "the clients of ServeGen in that folder"

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        _check_requests(num_requests)
        return from_clients(self._clients, num_requests, rate_per_s, seed, self.text)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        return at_most(self.generate(num_requests, 1.0, seed), concurrency)

    @cached_property
    def _clients(self) -> list[Client]:
        return read_clients(self.text)


def word_of(text: str, reading: Reading = AS_IT_STANDS) -> WorkloadWord:
    """The workload that ``text`` says; a trace file is read as ``reading`` says.

    Raises ``WorkloadError`` with the nearest word and all of them, or for a key or value of ``in=...``.
    """
    text = text.strip()
    word = SPELLINGS.get(text, text)
    if word in WORDS:
        return WORDS[word](word)
    if os.path.isfile(text):
        return _Trace(text, "a trace", reading)
    if is_clients(text):
        return _Clients(text)
    if _MADE_TO_ORDER.match(text) and Path(text).suffix not in _SUFFIXES:
        return _made_to_order(text)
    if "/" in text or Path(text).suffix in _SUFFIXES:
        TraceFile(text)
    meant, words = _meant(text.lower(), WORDS), ", ".join(WORDS)
    raise WorkloadError(f"workload {text!r} is unknown; {meant}allowed: {words}, or such as {EXAMPLE}, or a trace file")


EXAMPLE = "in=2000,out=300,prefix=800:10"
SPELLINGS = {"summarize": "summarise"}
_MADE_TO_ORDER = re.compile(r"[a-z_]+\s*=", re.IGNORECASE)
_SUFFIXES = (".csv", ".json", ".jsonl", ".gz", ".zip", ".log", ".txt", ".tsv")


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""


def _check_requests(num_requests: int) -> None:
    if num_requests < 1:
        raise WorkloadError(f"number of requests is {num_requests}; allowed: 1 or more")


def _sharegpt(text: str) -> WorkloadWord:
    """First questions and their answers of ShareGPT_V3_unfiltered_cleaned_split, as ``vllm bench serve`` samples them.

    It leaves out what has under 4 tokens, prompts over 1,024, and over 2,048 together. With Llama 3's tokenizer 1,000
    of them are 217,393 prompt tokens and, to the length asked for, 201,847 generated ones, in many published outputs of
    that tool. Their spread: published lengths of the file's first 200 pairs (SemSched's ``sharegpt_lens.json``), of
    which the filter leaves 181, have coefficients of variation of 1.10 and 1.17. Medians and deviations below are those
    of lognormals that have these means and spreads once filtered.
    """
    return _Single(
        text,
        "single questions with the lengths of ShareGPT_V3 as vllm bench serve samples it",
        LogNormal(168.4, 1.8368, 4, 1024),
        LogNormal(122.0, 1.0736, 4),
        most_tokens=2048,
    )


def _summarise(text: str) -> WorkloadWord:
    """Papers of arXiv and their abstracts up to 16,384 tokens together, as Sarathi-Serve's evaluation has them.

    Its table of datasets (OSDI 2024) has a median of 7,059 prompt tokens and a 90th percentile of 12,985; of answers
    208 and 371. Medians and deviations below are those of lognormals that have these once cut.
    """
    return _Single(
        text,
        "long papers to short summaries, with the lengths of arXiv in Sarathi-Serve",
        LogNormal(7726.0, 0.6255),
        LogNormal(208.0, 0.4515),
        most_tokens=16384,
    )


def _code(text: str) -> WorkloadWord:
    """Code completion of Azure's trace of 2023 (Splitwise, ISCA 2024; 8,819 requests).

    Prompts of 1,469 tokens in the median and 2,048 in the mean, up to 7,437; completions of 13 and 28. Lognormals have
    these once cut; the 99th percentiles, which are not fitted, are 7,070 and 224 where the trace has 7,436 and 249. It
    says nothing about content: prompts share nothing.
    """
    return _Single(
        text,
        "code completions with the lengths of Azure's trace of 2023",
        LogNormal(1803.1, 1.2552, 1, 7437),
        LogNormal(13.43, 1.2107, 1, 2000),
    )


def _config() -> Config:
    from kvsim.config import load_config

    return load_config(mode="traffic").config


def _chat(text: str) -> WorkloadWord:
    """``pd_trace`` of config.yaml: conversations and single questions over shared system prompts."""
    traffic = _config().pd_trace

    def drawn(num_requests: int, rate_per_s: float, seed: int) -> Workload:
        from kvsim.workload.synthetic.chat import chat

        return chat(traffic, num_requests, rate_per_s, seed)

    return _Sessions(
        text, "multi-turn chat over shared system prompts, pd_trace of config.yaml", drawn, traffic.think_time_s
    )


@dataclass
class _Rag(WorkloadWord):
    """``pd_trace`` of config.yaml: questions behind retrieved documents, by Zipf's law."""

    text: str
    what: str = "questions behind retrieved documents, pd_trace of config.yaml"

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        from kvsim.workload.synthetic.rag import rag

        _check_requests(num_requests)
        return rag(_config().pd_trace, num_requests, rate_per_s, seed)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        return at_most(self.generate(num_requests, 1.0, seed), concurrency)


def _agent(text: str) -> WorkloadWord:
    """``agent_trace`` of config.yaml as a request graph: agents whose tool results grow the context turn by turn.

    Three sub-agents follow 2% of the turns: an assumption, as no public trace has a usual number of them.
    """
    traffic = _config().agent_trace

    def drawn(num_requests: int, rate_per_s: float, seed: int) -> Workload:
        from kvsim.workload.synthetic.agent import Spawning, agent_graph

        return agent_graph(traffic, num_requests, rate_per_s, seed, Spawning(share=0.02, subagents=3))

    return _Sessions(text, "agents with tools and sub-agents, agent_trace of config.yaml", drawn, 0.0)


WORDS: Mapping[str, Callable[[str], WorkloadWord]] = {
    "sharegpt": _sharegpt,
    "chat": _chat,
    "rag": _Rag,
    "agent": _agent,
    "summarise": _summarise,
    "code": _code,
}


_KEYS = {
    "in": "prompt tokens",
    "out": "answer tokens",
    "prefix": "TOKENS:COUNT, shared heads of prompts",
    "prefixes": "how many shared heads there are, of a length that follows from hit",
    "hit": "share of prompt tokens that a cache that forgets nothing has",
    "turns": "turns of a conversation",
    "think": "mean seconds between an answer and the next turn",
}


def _made_to_order(text: str) -> WorkloadWord:
    """``in`` and ``out`` are needed. A prefix is the head of a prompt and counts as part of its ``in``.

    With ``turns`` every turn adds ``in`` to all that was said before, and the prefix is the head of the first.
    """
    given = _pairs(text)
    missing = [key for key in ("in", "out") if key not in given]
    if missing:
        raise WorkloadError(f"workload {text!r} has no {' and no '.join(missing)}; such as {EXAMPLE}")
    prompts, answers = (lengths_of_word(f"workload {text!r}: {key}", given[key]) for key in ("in", "out"))
    prefixes = _prefixes(text, given, prompts)
    turns = _whole(text, "turns", given.get("turns", "1"))
    if turns == 1:
        if "think" in given:
            raise WorkloadError(f"workload {text!r}: think is {given['think']!r} without turns=2 or more")
        return _Single(text, "requests made to order", prompts, answers, prefixes=prefixes)
    if prefixes.hit is not None:
        raise WorkloadError(
            f"workload {text!r}: hit goes without turns, which have hits of their own; allowed: one of them"
        )
    think_s = _seconds(text, given["think"]) if "think" in given else _config().pd_trace.think_time_s
    shape = Conversation(turns, prompts, answers, think_s, prefixes.tokens or 0, prefixes.count)

    def drawn(num_requests: int, rate_per_s: float, seed: int) -> Workload:
        return conversations(shape, num_requests, rate_per_s, seed, assumed_pace_s(None), text)

    return _Sessions(text, f"conversations of {turns} turns, {think_s:g} s between them", drawn, think_s)


def _pairs(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in _KEYS:
            meant, known = _meant(key, _KEYS), ", ".join(_KEYS)
            raise WorkloadError(f"workload {text!r}: unknown key {key!r}; {meant}known: {known}")
        if not equals or not value:
            raise WorkloadError(f"workload {text!r}: {key} has no value; allowed: {key}={_KEYS[key]}")
        if key in given:
            raise WorkloadError(f"workload {text!r}: {key} is given twice")
        given[key] = value
    return given


def _prefixes(text: str, given: Mapping[str, str], prompts: Lengths) -> Prefixes:
    hit = _share(text, given["hit"]) if "hit" in given else None
    if "prefix" not in given:
        if "prefixes" in given and hit is None:
            raise WorkloadError(f"workload {text!r}: prefixes goes with hit; allowed: prefix=TOKENS:COUNT without it")
        return Prefixes(_whole(text, "prefixes", given.get("prefixes", "1")), None, hit)
    if "prefixes" in given:
        raise WorkloadError(f"workload {text!r}: prefix and prefixes; allowed: one of them")
    tokens_word, colon, count_word = given["prefix"].partition(":")
    tokens = lengths_of_word(f"workload {text!r}: prefix", tokens_word)
    if not isinstance(tokens, Uniform) or tokens.least != tokens.most:
        raise WorkloadError(f"workload {text!r}: prefix is {given['prefix']!r}; allowed: TOKENS:COUNT, such as 800:10")
    if tokens.most >= (prompts.most if isinstance(prompts, Uniform) else math.inf):
        raise WorkloadError(
            f"workload {text!r}: prefix is {tokens.most:,} tokens, part of in; allowed: below in = {given['in']}"
        )
    count = _whole(text, "prefix", count_word, given["prefix"]) if colon else 1
    return Prefixes(count, tokens.most, hit)


def _whole(text: str, key: str, word: str, shown: str | None = None) -> int:
    if not (word.isascii() and word.isdigit() and 1 <= int(word) <= 10**9):
        raise WorkloadError(f"workload {text!r}: {key} is {shown or word!r}; allowed: a whole number, 1 or more")
    return int(word)


def _share(text: str, word: str) -> float:
    percent = word.endswith("%")
    try:
        share = float(word.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise WorkloadError(f"workload {text!r}: hit is {word!r}; allowed: a share from 0 to below 1, or such as 60%")
    return share


def _seconds(text: str, word: str) -> float:
    try:
        value = float(word.removesuffix("s"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise WorkloadError(f"workload {text!r}: think is {word!r}; allowed: seconds, 0 or more")
    return value
