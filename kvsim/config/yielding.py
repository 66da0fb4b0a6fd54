"""Defaults that give way: a value that nobody chose never refuses one that somebody did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import gcd
from typing import Any

from kvsim.config.checks import EXPERIMENTS, UNPLACED, Mode, tiers_in_use
from kvsim.config.layer import Origins
from kvsim.config.steptime_keys import FOR_METHOD, ROOFLINE, method_of
from kvsim.config.tree import Tree, get, put
from kvsim.config.yaml_source import shown

Yielded = Iterator[tuple[str, Any, str]]
"""A key, its new value, and what it follows."""


def yielded(tree: Tree, origins: Origins, mode: Mode | None) -> tuple[Tree, list[str]]:
    """``tree`` with those defaults changed that could not stand beside what was chosen, and a note on each."""
    notes = []
    rules: tuple[Callable[[Tree, Origins, Mode | None], Yielded], ...] = (_method, _seats, _chunks, _sessions, _hosts)
    for rule in rules:
        for key, value, reason in rule(tree, origins, mode):
            notes.append(f"{key} = {shown(value)} instead of {shown(get(tree, key))}: {reason}")
            tree = put(tree, key, value)
    return tree, notes


def _method(tree: Tree, origins: Origins, mode: Mode | None) -> Yielded:
    """Who sets what one way to know step times looks at means that way."""
    method = "steptime.method"
    if get(tree, method) != "auto" or origins.is_chosen(method):
        return
    for key in (*FOR_METHOD, *ROOFLINE):
        if origins.is_chosen(key) and get(tree, key) is not None:
            yield method, method_of(key), f"{key} is set"
            return


def _seats(tree: Tree, origins: Origins, mode: Mode | None) -> Yielded:
    """Seats lowered as vLLM lowers its own default of ``max_num_seqs``."""
    seats, budget = "engine.max_num_seqs", "engine.max_num_batched_tokens"
    if origins.is_chosen(budget) and not origins.is_chosen(seats):
        most, tokens = _whole(tree, seats), _whole(tree, budget)
        if 0 < tokens < most:
            yield seats, tokens, f"a step of {budget} = {tokens} holds no token of more sequences"


def _chunks(tree: Tree, origins: Origins, mode: Mode | None) -> Yielded:
    chunk = "cache.chunk_tokens"
    blocks = ("pd_separation.compute.tokens_per_block", "engine.block_size")
    if origins.is_chosen(chunk) or not origins.is_chosen(*blocks) or not tiers_in_use(tree, mode):
        return
    block = next(size for size in (*(_whole(tree, key) for key in blocks), -1) if size)
    tokens = _whole(tree, chunk)
    if block > 0 and tokens % block:
        yield chunk, -(-tokens // block) * block, f"a whole number of blocks of {block} tokens"


def _sessions(tree: Tree, origins: Origins, mode: Mode | None) -> Yielded:
    """Sessions and their turns are as many as the requests take, or requests as many as the sessions make."""
    for name, (section, experiments) in EXPERIMENTS.items():
        if mode not in (name, None):
            continue
        sessions, turns = f"{section}.num_sessions", f"{section}.turns_per_session"
        # The more specific of two spellings.
        both = (f"{section}.num_requests", f"{experiments}.num_requests") if name == "pd" else ()
        requests = next((key for key in both if _whole(tree, key)), f"{experiments}.num_requests")
        wanted, drawn, each = (_whole(tree, key) for key in (requests, sessions, turns))
        if not (wanted > 0 and drawn > 0 and each > 0) or wanted <= drawn * each:
            continue
        if not origins.is_chosen(sessions):
            yield sessions, -(-wanted // each), f"{requests} = {wanted} at {each} turns a session"
        elif not origins.is_chosen(requests):
            yield requests, drawn * each, f"{sessions} = {drawn} at {each} turns a session"


def _hosts(tree: Tree, origins: Origins, mode: Mode | None) -> Yielded:
    """A rack holds whole hosts."""
    host, rack = "cluster.network.gpus_per_host", "cluster.simulate_gpus_per_rack"
    per_host, per_rack = _whole(tree, host), _whole(tree, rack)
    if mode in UNPLACED or origins.is_chosen(host) or not origins.is_chosen(rack):
        return
    if per_host > 0 and per_rack > 0 and per_rack % per_host:
        yield host, gcd(per_host, per_rack), f"whole hosts in a rack of {rack} = {per_rack}"


def _whole(tree: Tree, path: str) -> int:
    """The whole number at ``path``; 0 for anything else, which is refused later where that is no number."""
    value = get(tree, path)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
