"""What is answered: a recorded response by its prompt, else words of the asked length; both the same every time."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from kvsim.serve.tokens import END, Tokens

MEDIAN_TOKENS, SPREAD = 128, 0.8
"""Of the log-normal lengths that answers have where nobody limits them and nothing is recorded."""
_TEXT = (
    "the of and to in is it on as at be by we so or an if up no do go he me my us am was for are but not you all can "
    "her one our out day get has him his how man new now old see two way who boy did its let put say she too use any"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of its answer."""

    max_tokens: int
    """Limit that the request or the model's length sets."""
    is_limited: bool
    """Whether the request itself sets one."""
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    keeps_stop: bool = False
    """Whether a stop string that ends the answer is part of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, token by token; all of it is known when its request comes."""

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    """What each token adds to the text."""
    finish_reason: str
    """``stop`` or ``length``, in OpenAI's words."""
    stop_reason: int | str | None = None
    """The stop string or token that ended it."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Answers:
    """Makes answers. Nothing is drawn from a generator: a prompt and its choice's number decide."""

    def __init__(self, tokens: Tokens, recorded: Mapping[str, str]) -> None:
        self._tokens, self._recorded = tokens, recorded
        found = [(ids[0], pieces[0]) for word in _WORDS for ids, pieces in (tokens.split(f" {word}"),) if len(ids) == 1]
        # A tokenizer that has hardly a word in one token: whatever its first ids say.
        self._words = found if len(found) >= 16 else [(id_, tokens.decode([id_])) for id_ in range(1, 65)]

    def answer(self, prompt: Sequence[int], texts: Sequence[str], choice: int, asked: Asked) -> Answer:
        """The answer to ``prompt``, which is recorded under one of ``texts`` or under none."""
        response = next((self._recorded[text] for text in texts if text in self._recorded), None)
        seed = hashlib.sha256(array("Q", prompt).tobytes() + choice.to_bytes(8)).digest()
        if response is None:
            ids, pieces = self._filler(seed, self._length(seed, asked))
        else:
            ids, pieces = self._tokens.split(response)
        ends = (response is not None or not asked.is_limited) and not asked.ignore_eos
        least = min(asked.min_tokens if ends else asked.max_tokens, asked.max_tokens)
        if len(ids) < least:
            more_ids, more = self._filler(seed, least - len(ids))
            ids, pieces = [*ids, *more_ids], [*pieces, *more]
        return _limited(ids, pieces, asked, ends=ends)

    def _length(self, seed: bytes, asked: Asked) -> int:
        """Tokens of an answer with nothing recorded: as many as the request allows where it says, or ignores ends."""
        if asked.is_limited or asked.ignore_eos:
            return asked.max_tokens
        share = (int.from_bytes(seed[:8]) + 0.5) / 2**64
        drawn = MEDIAN_TOKENS * math.exp(SPREAD * NormalDist().inv_cdf(min(share, 1 - 1e-12)))
        return min(max(round(drawn), 1), asked.max_tokens)

    def _filler(self, seed: bytes, count: int) -> tuple[list[int], list[str]]:
        words = self._words
        chosen = [words[byte % len(words)] for byte in hashlib.shake_128(seed).digest(count)]
        return [token for token, _ in chosen], [piece for _, piece in chosen]


def _limited(ids: list[int], pieces: list[str], asked: Asked, *, ends: bool) -> Answer:
    """An answer cut where the request's own stops or its limit cut it; one that ``ends`` by itself says so with a
    token of its own."""
    most = asked.max_tokens
    found = _stopped(ids[:most], pieces[:most], asked)
    if found is not None:
        return found
    if not ends or len(ids) >= most:
        return Answer(tuple(ids[:most]), tuple(pieces[:most]), "length")
    return Answer((*ids, END), (*pieces, ""), "stop")


def _stopped(ids: list[int], pieces: list[str], asked: Asked) -> Answer | None:
    """The answer up to the first stop string or stop token behind the least tokens; ``None``: there is neither."""
    begin = max(asked.min_tokens - 1, 0)
    last, reason = len(ids), None
    for place in range(begin, len(ids)) if asked.stop_token_ids else ():
        if ids[place] in asked.stop_token_ids:
            last, reason = place, ids[place]
            break
    by_string = _by_string(pieces[:last], asked, begin)
    if by_string is not None:
        place, text, string = by_string
        return Answer(tuple(ids[: place + 1]), _shortened(pieces[: place + 1], len(text)), "stop", string)
    if reason is None:
        return None
    kept = pieces[last] if asked.keeps_stop else ""
    return Answer(tuple(ids[: last + 1]), (*pieces[:last], kept), "stop", reason)


def _by_string(pieces: list[str], asked: Asked, begin: int) -> tuple[int, str, str] | None:
    """The token that completes the first stop string, the text that is kept, and the string."""
    if not asked.stop:
        return None
    text = "".join(pieces)
    if not any(string in text for string in asked.stop):
        return None
    done = 0
    for place, piece in enumerate(pieces):
        before, done = done, done + len(piece)
        if place < begin:
            continue
        hits = [
            (at, string)
            for string in asked.stop
            if (at := text.find(string, max(before - len(string) + 1, 0), done)) >= 0
        ]
        if hits:
            at, string = min(hits)
            return place, text[: at + len(string) if asked.keeps_stop else at], string
    return None


def _shortened(pieces: list[str], length: int) -> tuple[str, ...]:
    """As many pieces, of ``length`` characters in all: a stop string may have begun pieces before it ended."""
    found, left = [], length
    for piece in pieces:
        found.append(piece[:left])
        left -= len(found[-1])
    return tuple(found)
