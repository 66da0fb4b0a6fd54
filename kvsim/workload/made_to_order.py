"""Workloads made to order: ``in=2000,out=300,prefix=800:10`` and what else may stand there."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping

from kvsim.errors import WorkloadError
from kvsim.workload.lengths import Lengths, Uniform, lengths_of_word
from kvsim.workload.synthetic.conversations import Conversation, conversations
from kvsim.workload.synthetic.prefixes import Prefixes
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.word_kinds import Sessions, Single, WorkloadWord, shipped_config
from kvsim.workload.workload import Workload

EXAMPLE = "in=2000,out=300,prefix=800:10"
_KEYS = {
    "in": "prompt tokens",
    "out": "answer tokens",
    "prefix": "TOKENS:COUNT, shared heads of prompts",
    "prefixes": "how many shared heads there are, of a length that follows from hit",
    "hit": "share of prompt tokens that a cache that forgets nothing has",
    "turns": "turns of a conversation",
    "think": "mean seconds between an answer and the next turn",
}


def made_to_order(text: str) -> WorkloadWord:
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
        return Single(text, "requests made to order", prompts, answers, prefixes=prefixes)
    if prefixes.hit is not None:
        raise WorkloadError(
            f"workload {text!r}: hit goes without turns, which have hits of their own; allowed: one of them"
        )
    think_s = _seconds(text, given["think"]) if "think" in given else shipped_config().pd_trace.think_time_s
    shape = Conversation(turns, prompts, answers, think_s, prefixes.tokens or 0, prefixes.count)

    def drawn(num_requests: int, rate_per_s: float, seed: int) -> Workload:
        return conversations(shape, num_requests, rate_per_s, seed, assumed_pace_s(None), text)

    return Sessions(text, f"conversations of {turns} turns, {think_s:g} s between them", drawn, think_s)


def _pairs(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in _KEYS:
            close, known = meant(key, _KEYS), ", ".join(_KEYS)
            raise WorkloadError(f"workload {text!r}: unknown key {key!r}; {close}known: {known}")
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


def meant(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names as a question, or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""
