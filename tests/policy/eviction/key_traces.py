"""Traces that a formula makes: the same keys on every machine, with no generator's version behind them."""

from __future__ import annotations

from collections.abc import Iterator

MODULUS = 2**31 - 1


def draws(seed: int) -> Iterator[float]:
    """Numbers in 0..1 of the minimal standard generator (Park and Miller 1988)."""
    state = seed
    while True:
        state = state * 48271 % MODULUS
        yield state / MODULUS


def skewed(num: int, different: int, seed: int = 7) -> list[int]:
    """Few keys often, most seldom: the cube of a uniform draw."""
    numbers = draws(seed)
    return [int(different * next(numbers) ** 3) for _ in range(num)]


def mixed(num: int, seed: int = 11) -> list[int]:
    """Skewed stretches, loops a little larger than a cache, scans of keys that never come back."""
    numbers = draws(seed)
    keys: list[int] = []
    fresh = 1_000_000
    while len(keys) < num:
        kind, length = next(numbers), 20 + int(100 * next(numbers))
        if kind < 0.5:
            keys += [int(400 * next(numbers) ** 2) for _ in range(length)]
        elif kind < 0.8:
            keys += [500 + i for i in range(length)] * 2
        else:
            keys += range(fresh, fresh + length)
            fresh += length
    return keys[:num]
