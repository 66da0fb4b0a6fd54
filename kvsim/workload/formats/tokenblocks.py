"""Blocks of token ids as a tree: equal tokens behind an equal prefix are one block."""

from __future__ import annotations

from array import array


class TokenBlocks:
    """Numbers the blocks of token sequences, so that two of them share numbers as far as they share whole blocks.

    The rest of a sequence behind its last whole block may be numbered as well. Then it has the number of a block that
    begins with it, before or after: an answer that ends inside a block is found again in the prompt that goes on.
    """

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._known: dict[tuple[int, bytes], int] = {}
        self._children: dict[int, list[tuple[bytes, int]]] = {}
        self._rests: dict[int, list[tuple[bytes, int]]] = {}
        """Behind each block, the beginnings that no whole block has taken over."""
        self._count = 0

    def path(self, tokens: array[int], with_rest: bool) -> list[int]:
        """The numbers of a sequence's blocks, from its start; ``with_rest`` also of what is left at its end."""
        content = memoryview(tokens).cast("B")
        width = tokens.itemsize * self._block_tokens
        whole = len(tokens) // self._block_tokens * width
        path: list[int] = []
        at = -1
        for start in range(0, whole, width):
            at = self._block(at, bytes(content[start : start + width]))
            path.append(at)
        if with_rest and whole < len(content):
            path.append(self._rest(at, bytes(content[whole:])))
        return path

    def _block(self, parent: int, content: bytes) -> int:
        number = self._known.get((parent, content))
        if number is None:
            rests = self._rests.get(parent, [])
            place = next((place for place, (begin, _) in enumerate(rests) if content.startswith(begin)), None)
            number = self._new() if place is None else rests.pop(place)[1]
            self._known[parent, content] = number
            self._children.setdefault(parent, []).append((content, number))
        return number

    def _rest(self, parent: int, content: bytes) -> int:
        for whole, number in self._children.get(parent, ()):
            if whole.startswith(content):
                return number
        rests = self._rests.setdefault(parent, [])
        for place, (begin, number) in enumerate(rests):
            if begin.startswith(content):
                return number
            if content.startswith(begin):
                rests[place] = content, number
                return number
        rests.append((content, self._new()))
        return rests[-1][1]

    def _new(self) -> int:
        self._count += 1
        return self._count - 1
