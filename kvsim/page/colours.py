"""Colours of the page, by a variable each: a light and a dark one, told apart by colour-blind readers."""

from __future__ import annotations

from kvsim.study.pictures import PALETTE

_ON_DARK = {
    "#0072B2": "#3B8EDB",
    "#D55E00": "#F0803C",
    "#009E73": "#2BC59B",
    "#56B4E9": "#A8DCF8",
    "#404040": "#D0D0D0",
    "#8C564B": "#BC8074",
    "#5B2C83": "#A98BD9",
}
"""Lighter ones there, no two of them alike."""
DASHES = ([1, 0], [7, 3], [2, 2])
"""Lines have the first; those whose colours come again, the next ones."""
SERIES = tuple(f"var(--c{place})" for place in range(len(PALETTE)))


def colour(place: int) -> str:
    """The variable of the series at ``place``, from 0 on; colours come again after the palette's last, and before its
    first.
    """
    return SERIES[place % len(SERIES)]


def dash(place: int) -> list[int]:
    """The dashes of the series at ``place``: others each time that the colours come again."""
    return DASHES[place // len(SERIES) % len(DASHES)]


def variables(*, dark: bool) -> str:
    """The colours as CSS."""
    return "".join(f"--c{place}:{_ON_DARK.get(each, each) if dark else each};" for place, each in enumerate(PALETTE))
