"""Prompts that come one after another, as tokens: which chains they are made of, by what has come before.

Blocks are known by what they hold and all that is before them, as vLLM's prefix cache knows them (block hashes that go
on from the parent's), so two requests share a chain exactly as far as their blocks are the same.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

Pieces = tuple[tuple[int, int], ...]
_DIGEST_BYTES = 16
_MOST_SPARED = 1024
"""Blocks that a request may find to be held still when others are to be forgotten: the next one looks further."""
_TOKEN_BYTES = 8
"""Token ids are whole numbers of 64 bits."""


class PrefixRegistry:
    """Turns prompts and the answers that they will get into ``Request.pieces`` and ``Request.output_chain``.

    It remembers ``most_blocks`` blocks, those used last. A block that it has forgotten and a cache has not is taken for
    another one when it comes again, so let that be twice what the caches hold (``OnlineServing.most_cached_blocks``),
    and the answer of ``is_held`` keep what long requests hold, or long queues ask for.
    """

    def __init__(self, block_size: int, most_blocks: int, is_held: Callable[[int], bool] | None = None) -> None:
        """``block_size`` in tokens. ``is_held(chain)``: whether blocks of it are cached, or of a request that is in
        flight, so that they must not be forgotten yet (``OnlineServing.holds``).
        """
        if block_size < 1 or most_blocks < 1:
            raise ValueError(f"block_size {block_size}, most_blocks {most_blocks}; allowed: 1 or more")
        self._block_size, self._most_blocks, self._is_held = block_size, most_blocks, is_held
        self._known: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        """By digest, the one used last at the end: the block's chain, and its place there. What is before a block was
        used after it."""
        self._next_chain = 0

    def __len__(self) -> int:
        """Blocks that are known."""
        return len(self._known)

    def pieces(self, prompt: Sequence[int], answer: Sequence[int], extra: object = None) -> tuple[Pieces, int]:
        """``pieces`` and ``output_chain`` of a request with this prompt, whose generated tokens will be ``answer``.

        ``extra``: what else tells blocks apart, as an adapter or a salt, by its ``repr``. What nobody has asked for
        begins a new chain. Where the answer follows what is known before it goes its own way, the pieces go on behind
        the prompt's end, and sum to more than its tokens.
        """
        if not len(prompt):
            raise ValueError("the prompt has no tokens; allowed: one or more")
        digests = self._digests(prompt, answer, extra)
        places = self._places(digests)
        self._use(digests, places)
        runs: list[tuple[int, int]] = []
        """Chains, and up to which block of the request each goes."""
        for block, (chain, _) in enumerate(places):
            if runs and runs[-1][0] == chain:
                runs[-1] = chain, block + 1
            else:
                runs.append((chain, block + 1))
        return self._cut(runs, len(prompt))

    def _digests(self, prompt: Sequence[int], answer: Sequence[int], extra: object) -> list[bytes]:
        """Of all whole blocks, each with what is before it."""
        content = array("q", prompt).tobytes() + array("q", answer).tobytes()
        size = self._block_size * _TOKEN_BYTES
        digest = blake2b(repr(extra).encode(), digest_size=_DIGEST_BYTES).digest()
        found: list[bytes] = []
        for start in range(0, len(content) - size + 1, size):
            digest = blake2b(digest + content[start : start + size], digest_size=_DIGEST_BYTES).digest()
            found.append(digest)
        return found

    def _places(self, digests: list[bytes]) -> list[tuple[int, int]]:
        """Chain, and place in it, of each block: as they are known, and from the first one on that is not in a chain of
        their own.
        """
        places: list[tuple[int, int]] = []
        chain, following = -1, 0
        for digest in digests:
            found = self._known.get(digest)
            if found is None or (found[1] and found != (chain, following)):
                break
            places.append(found)
            chain, following = found[0], found[1] + 1
        left = len(digests) - len(places)
        if left:
            fresh = self._fresh()
            places += [(fresh, place) for place in range(left)]
        return places

    def _use(self, digests: list[bytes], places: list[tuple[int, int]]) -> None:
        """Note that these blocks were used now, the last first, and forget those that were not for longest."""
        known = self._known
        for digest, place in zip(reversed(digests), reversed(places), strict=True):
            known[digest] = place
            known.move_to_end(digest)
        most, spared = max(self._most_blocks, len(digests)), 0
        now = {chain for chain, _ in places}
        while len(known) > most and spared < _MOST_SPARED:
            digest, oldest = known.popitem(last=False)
            if self._is_held is not None and (oldest[0] in now or self._is_held(oldest[0])):
                known[digest] = oldest
                spared += 1

    def _cut(self, runs: list[tuple[int, int]], prompt_tokens: int) -> tuple[Pieces, int]:
        """The pieces up to the prompt's end, or, where more than one chain follows that, up to the last of them."""
        size = self._block_size
        whole_tokens = runs[-1][1] * size if runs else 0
        pieces, start = [], 0
        for chain, end in runs:
            pieces.append((chain, end * size - start))
            start = end * size
        if prompt_tokens > whole_tokens:
            # Behind the last whole block there never will be another; nobody shares what is there.
            last = self._fresh()
            return (*pieces, (last, prompt_tokens - whole_tokens)), last
        last, tokens = pieces.pop()
        left = prompt_tokens - (whole_tokens - tokens)
        if left > 0:
            pieces.append((last, left))
        return tuple(pieces), last

    def _fresh(self) -> int:
        self._next_chain += 1
        return self._next_chain - 1
