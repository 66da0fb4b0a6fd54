"""Studies that stand alone, and labs: a question, a conclusion, rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kvsim.explore.artefact import Artefact, Block, Entry, Figures, Tree, cache_of, ensure_version, flat_config, table
from kvsim.explore.runs import rows_block
from kvsim.launch import read_launch_line

_FIGURES = {
    "requests": ("requests", "num_requests"),
    "requests_per_s": ("requests_per_s", "throughput_requests_per_s"),
    "output_tokens_per_s": ("output_tokens_per_s", "tokens_per_s"),
    "ttft_mean_ms": ("ttft_mean_ms", "ttft_ms", "mean_ttft_ms"),
    "ttft_p99_ms": ("ttft_p99_ms", "p99_ttft_ms"),
    "tpot_mean_ms": ("tpot_mean_ms", "tpot_ms"),
    "e2e_mean_ms": ("e2e_mean_ms", "e2e_ms"),
    "hit_rate": ("hit_share", "hit_rate", "prefix_hit_rate"),
}
"""Figures of an entry, and how rows call them."""
_CACHE, _ORDER = ("cache_mode", "cache", "caching"), ("phase_order",)
_NAMED = 3
"""Fields of a row that name it."""


def is_study(tree: Tree) -> bool:
    """Whether ``kvsim study`` wrote it."""
    return all(name in tree for name in ("study", "question", "conclusion", "answer", "config"))


def is_lab(tree: Tree) -> bool:
    """Whether ``kvsim lab`` wrote it."""
    return all(name in tree for name in ("lab", "question", "conclusion", "rows"))


def study_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of a study, an entry a row with figures; one where there is none."""
    ensure_version(tree["version"])
    config, answer = tree["config"], tree["answer"]
    rows = [row for row in answer.get("rows", ()) if isinstance(row, dict)]
    base = Entry(
        name=tree["study"],
        figures=Figures(),
        model=config["model"]["name"],
        gpu=config["hardware"]["gpu"],
        workload=f"of study {tree['study']}",
        cache=cache_of(config),
    )
    said = (("mode", tree["mode"]), ("preset", tree["preset"] or "-"), ("seed", str(tree["seed"])))
    return Artefact(
        path=path,
        digest=digest,
        kind="study",
        title=f"{tree['study']}: {tree['question']}",
        entries=tuple(_entries(rows, base)),
        lead=tree["conclusion"],
        facts=said,
        blocks=tuple(_rows(rows)),
        config=flat_config(config),
    )


def lab_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of a lab, an entry a row with figures; one where there is none."""
    ensure_version(tree["version"])
    asked = tree.get("asked", ())
    base = Entry(
        name=tree["lab"],
        figures=Figures(requests=_same_count(asked)),
        model=_same([read_launch_line(each["line"]).model for each in asked]),
        gpu=_same([each["gpu"] for each in asked]),
        workload=_same([each["workload"] for each in asked]),
        cache=_same([str(tree[name]) for name in _CACHE if name in tree]),
        order=_same([str(tree[name]) for name in _ORDER if name in tree]),
        backend=tree["backend"],
    )
    blocks = list(_rows(tree["rows"]))
    if tree.get("beside"):
        rows = [
            [one["what"], one["theirs"], one["ours"], "same" if one["same_sign"] else "other", one["source"]]
            for one in tree["beside"]
        ]
        blocks.append(table("Beside published figures", ["", "theirs", "ours", "sign", "source"], rows))
    if asked:
        lines = [
            [each["line"], each["gpu"], each["workload"], f"{each['requests']:,}", _driven(each)] for each in asked
        ]
        blocks.append(table("Runs", ["server", "GPU", "workload", "requests", "load"], lines))
    said = (("backend", tree["backend"]), ("preset", tree["preset"] or "-"), ("seed", str(tree["seed"])))
    return Artefact(
        path=path,
        digest=digest,
        kind="lab",
        title=f"{tree['lab']}: {tree['question']}",
        entries=tuple(_entries(tree["rows"], base)),
        lead=tree["conclusion"],
        facts=said,
        blocks=tuple(blocks),
    )


def _driven(asked: Tree) -> str:
    if asked["concurrency"] is not None:
        return f"{asked['concurrency']:,} at a time"
    return "all at once" if asked["rate_per_s"] is None else f"{asked['rate_per_s']:g}/s"


def _rows(rows: Sequence[Tree]) -> Iterator[Block]:
    if rows:
        yield rows_block("Rows", [dict(row) for row in rows])


def _entries(rows: Sequence[Tree], base: Entry) -> Iterator[Entry]:
    from dataclasses import replace

    named = [(row, _figures(row, base.figures.requests)) for row in rows]
    known = [(row, found) for row, found in named if found != Figures(requests=base.figures.requests)]
    if not known:
        yield base
        return
    for place, (row, found) in enumerate(known):
        yield replace(
            base,
            name=_name(row) or f"row {place + 1}",
            figures=found,
            cache=_word(row, _CACHE) or base.cache,
            order=_word(row, _ORDER) or base.order,
        )


def _figures(row: Tree, requests: int | None) -> Figures:
    values = {name: _number(row, words) for name, words in _FIGURES.items()}
    count = values.pop("requests")
    return Figures(requests=requests if count is None else int(count), **values)


def _number(row: Tree, names: Sequence[str]) -> float | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, dict):
            value = value.get("mean")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    return None


def _name(row: Tree) -> str:
    figures = {word for words in _FIGURES.values() for word in words}
    fields = [(key, value) for key, value in row.items() if isinstance(value, str | int) and key not in figures]
    return ", ".join(f"{key} {'-' if value == '' else value}" for key, value in fields[:_NAMED])


def _word(row: Tree, names: Sequence[str]) -> str:
    return next((_spoken(row[name]) for name in names if isinstance(row.get(name), str | bool)), "")


def _spoken(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _same(values: Sequence[str]) -> str:
    """What all of them are; ``several``."""
    kinds = set(values)
    return "several" if len(kinds) > 1 else next(iter(kinds), "")


def _same_count(asked: Sequence[Tree]) -> int | None:
    counts = {each["requests"] for each in asked}
    return counts.pop() if len(counts) == 1 else None
