"""``kvsim lab designs``: what the KV lab can be asked."""

from __future__ import annotations

from textwrap import fill

from kvsim.cli.saying import DONE


def lab_designs() -> int:
    """Name the designs of the KV lab that come with kvsim, and what each asks."""
    from kvsim.lab.kv.reading import names, read_design

    width = max(map(len, names()))
    for name in names():
        question = read_design(name).design.question
        print(fill(question, 110, initial_indent=f"{name:<{width}}  ", subsequent_indent=" " * (width + 2)))
    return DONE
