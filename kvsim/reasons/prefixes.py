"""What became of every prompt token that was computed: why no cache gave it.

A pure function of a workload, the table of its completed requests and what their engines are; nothing is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim.record.result import Table
from kvsim.workload.graph import ranges
from kvsim.workload.hits import most_before
from kvsim.workload.workload import Floats, Ints, Workload

CLASSES = ("cold", "off", "partial", "last", "evicted", "elsewhere", "answers", "pending")
"""What computed tokens are, in the order in which one is told from the next; see ``Missed``."""


@dataclass(frozen=True)
class Caches:
    """What the instances are that compute prompts."""

    block_tokens: int
    enabled: bool = True
    answers_stay: bool = True
    """Whether KV of answers ends in the cache of the instance that computed the prompt."""
    evicts: bool = True
    """Whether any block was evicted."""
    in_order: bool = True
    """Whether requests of one instance are admitted in the order of their arrival."""


@dataclass(frozen=True, eq=False)
class Missed:
    """Tokens of each completed request, in the order of arrival: ``prompt == hit + the sum over CLASSES``.

    - ``cold``: no earlier request's prompt or answer had them.
    - ``off``: one had; prefix caching is off.
    - ``partial``: one had, in a block of which it had not all; ``last``: in the block with the prompt's last token,
      which is computed in any case.
    - ``evicted``: this instance had computed them, and they were gone.
    - ``elsewhere``: another instance had computed them; ``answers``: had generated them.
    - ``pending``: nobody had computed them when the request was admitted.

    ``warm`` are hits that no earlier request of the run accounts for.
    """

    rows: Ints
    """Places in the run's table."""
    prompt: Ints
    hit: Ints
    shared: Ints
    """The head that some earlier request had."""
    tokens: dict[str, Ints]
    """By class."""
    warm: Ints
    instance: Ints
    admitted_s: Floats
    path: Path

    def total(self, name: str) -> int:
        return int(self.tokens[name].sum())

    @property
    def prompt_tokens(self) -> int:
        return int(self.prompt.sum())

    @property
    def hit_tokens(self) -> int:
        return int(self.hit.sum())


@dataclass(frozen=True, eq=False)
class Path:
    """Pieces of the requests' prompts in compressed rows, and the reach of their answers."""

    offsets: Ints
    owner: Ints
    start: Ints
    """Tokens of the prompt before the piece."""
    chain: Ints
    tokens: Ints
    answer_chain: Ints
    answer_reach: Ints
    """Tokens of the answer's chain that have KV once it has ended."""

    def head(self, found: Ints, prompt: Ints) -> Ints:
        """How much of each prompt's head is covered, where ``found`` tokens of each piece's chain are."""
        covered = np.where(self.chain >= 0, np.minimum(found, self.tokens), 0)
        count = len(self.owner)
        first = np.minimum.reduceat(np.where(covered < self.tokens, np.arange(count), count), self.offsets[:-1])
        safe = np.minimum(first, count - 1)
        return np.where(first < count, np.minimum(self.start[safe] + covered[safe], prompt), prompt)


def missed(workload: Workload, table: Table, caches: Caches, rows: Ints | None = None) -> Missed:
    """Classify what was computed of the prompts of ``rows`` of ``table``; all by default."""
    rows = _ordered(table, caches, np.arange(len(table["request_id"])) if rows is None else rows)
    own = {name: table[name][rows] for name in _COLUMNS}
    prompt, instance = own["prompt_tokens"].astype(np.int64), own["prefill_instance"].astype(np.int64)
    hit = prompt - own["computed_tokens"].astype(np.int64)
    path = _path(workload, own)
    admitted_s = own["arrival_s"] + own["proxy_s"] + own["queue_s"]
    shared = path.head(_asked(path), prompt) if len(rows) else prompt
    tokens = _classified(own, path, caches, prompt, hit, shared, instance, admitted_s)
    warm = np.maximum(hit - shared, 0)
    return Missed(rows, prompt, hit, shared, tokens, warm, instance, admitted_s, path)


_COLUMNS = (
    "request_id",
    "arrival_s",
    "first_token_s",
    "finish_s",
    "prompt_tokens",
    "output_tokens",
    "computed_tokens",
    "prefill_instance",
    "proxy_s",
    "queue_s",
    "transfer_s",
    "decode_wait_s",
    "first_decode_s",
)


def _ordered(table: Table, caches: Caches, rows: Ints) -> Ints:
    at_s = table["arrival_s"]
    if not caches.in_order:
        at_s = at_s + table["proxy_s"] + table["queue_s"]
    found: Ints = rows[np.lexsort((table["request_id"][rows], at_s[rows]))]
    return found


def _path(workload: Workload, own: Table) -> Path:
    requests = own["request_id"].astype(np.int64)
    counts = np.diff(workload.piece_offsets)[requests]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    places = ranges(workload.piece_offsets[requests], counts)
    tokens = workload.piece_tokens[places].astype(np.int64)
    before = np.concatenate(([0], np.cumsum(tokens)))[:-1]
    owner = np.repeat(np.arange(len(requests)), counts)
    start = before - before[offsets[:-1]][owner] if len(owner) else before
    chain = workload.piece_chain[places]
    answer_chain, last = workload.output_chain[requests], offsets[1:] - 1
    own_part = np.where(chain[last] == answer_chain, tokens[last], 0) if len(owner) else np.zeros(0, dtype=np.int64)
    reach = own["output_tokens"].astype(np.int64) - 1 + own_part
    return Path(offsets, owner, start, chain, tokens, answer_chain, reach)


def _asked(path: Path) -> Ints:
    """Tokens of each piece's chain that an earlier request had, in the order of the requests."""
    at = path.offsets[1:]
    keys = np.insert(path.chain, at, path.answer_chain)
    values = np.insert(path.tokens, at, path.answer_reach + 1)
    is_piece = np.insert(np.ones(len(path.chain), dtype=np.bool_), at, False)
    return _most_before(keys, values)[is_piece]


def _most_before(keys: Ints, values: Ints) -> Ints:
    """As ``most_before``, for any keys."""
    return most_before(np.unique(keys, return_inverse=True)[1].reshape(-1), values)


def _classified(
    own: Table, path: Path, caches: Caches, prompt: Ints, hit: Ints, shared: Ints, instance: Ints, admitted_s: Floats
) -> dict[str, Ints]:
    block = caches.block_tokens
    usable = np.minimum(shared // block, (prompt - 1) // block) * block
    known, whole = np.maximum(shared, hit), np.maximum(usable, hit)
    nothing = np.zeros_like(prompt)
    repeats = (shared >= prompt) & (prompt % block == 0)
    last = np.where(repeats, known - whole, 0)
    found = {"cold": prompt - known, "off": nothing, "partial": known - whole - last, "last": last}
    if not caches.enabled:
        return found | {"off": known - hit, "partial": nothing, "last": nothing} | _none(prompt)
    if not len(prompt):
        return found | _none(prompt)
    here, prompts, anywhere = _computed_heads(own, path, caches, prompt, instance, admitted_s)
    ends = [np.clip(head // block * block, hit, whole) for head in (here, prompts, anywhere)]
    evicted_to = ends[0] if caches.evicts else np.minimum(hit, whole)
    elsewhere_to = np.maximum(ends[1], evicted_to)
    if not caches.evicts:
        # Nothing was evicted, so what this instance had computed came after the request was admitted.
        elsewhere_to = np.where(ends[0] >= ends[1], evicted_to, elsewhere_to)
    answers_to = np.maximum(ends[2], elsewhere_to) if caches.evicts or not caches.answers_stay else elsewhere_to
    return found | {
        "evicted": evicted_to - hit,
        "elsewhere": elsewhere_to - evicted_to,
        "answers": answers_to - elsewhere_to,
        "pending": whole - answers_to,
    }


def _none(prompt: Ints) -> dict[str, Ints]:
    return dict.fromkeys(("evicted", "elsewhere", "answers", "pending"), np.zeros_like(prompt))


def _computed_heads(
    own: Table, path: Path, caches: Caches, prompt: Ints, instance: Ints, admitted_s: Floats
) -> tuple[Ints, Ints, Ints]:
    """The head of each prompt that had been computed when it was admitted: by its own instance; as part of a prompt,
    anywhere; in any way, anywhere."""
    numbers = int(instance.max(initial=0)) + 1
    prefilled_s = prefilled_at_s(own)
    pieces = path.chain, prefilled_s[path.owner], path.tokens, instance[path.owner]
    answers = path.answer_chain, own["finish_s"], path.answer_reach, instance
    both = tuple(np.concatenate(pair) for pair in zip(pieces, answers, strict=True))
    asked_s, asked_by = admitted_s[path.owner], instance[path.owner]
    home = both if caches.answers_stay else pieces
    here = _reached(home[0] * numbers + home[3], home[1], home[2], path.chain * numbers + asked_by, asked_s)
    prompts = _reached(pieces[0], pieces[1], pieces[2], path.chain, asked_s)
    anywhere = _reached(both[0], both[1], both[2], path.chain, asked_s)
    return path.head(here, prompt), path.head(prompts, prompt), path.head(anywhere, prompt)


def prefilled_at_s(own: Table) -> Floats:
    """When the KV of each prompt was computed."""
    found: Floats = own["first_token_s"] - own["transfer_s"] - own["decode_wait_s"] - own["first_decode_s"]
    return found


def _reached(keys: Ints, at_s: Floats, values: Ints, asked: Ints, asked_s: Floats) -> Ints:
    """For each of ``asked`` keys the largest value that the key had been given by ``asked_s``; 0 where none."""
    all_keys, all_s = np.concatenate([keys, asked]), np.concatenate([at_s, asked_s])
    is_question = np.concatenate([np.zeros(len(keys), dtype=np.int8), np.ones(len(asked), dtype=np.int8)])
    order = np.lexsort((is_question, all_s))
    given = np.concatenate([values, np.zeros_like(asked)])
    found = np.empty(len(order), dtype=np.int64)
    found[order] = _most_before(all_keys[order], given[order])
    return found[len(keys) :]
