"""Runs of the KV lab: phases, paired differences with their intervals, and what requests took."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from kvsim.explore.artefact import (
    Artefact,
    Block,
    Entry,
    Figures,
    Tree,
    ensure_version,
    flat_config,
    listed_block,
    table,
)
from kvsim.explore.runs import rows_block
from kvsim.lab.kv.analysis.report import FORM, RESULT
from kvsim.lab.kv.folder import RUN
from kvsim.record.labels import number

AUDIT = "audit.json"
_OFF = ("cold", "control_cold")
_ON = ("cache", "control_cache")
_VERDICTS = {"open": "not told apart", "unknown": "cannot be told"}
_MORE = (("TTFT p95", "ms", "ttft_p95_ms"), ("queueing mean", "ms", "queue_mean_ms"))


def is_beside_result(path: Path) -> bool:
    """Whether a run's own files stand beside its result, which has what they say."""
    return path.name in (RUN, AUDIT) and path.with_name(RESULT).is_file()


def is_kv_lab(tree: Tree) -> bool:
    """Whether ``kvsim lab run`` or ``kvsim lab merge`` wrote it."""
    return tree.get("form") == FORM


def kv_lab_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of a run, an entry a point and phase."""
    ensure_version(tree["version"])
    design = tree["design"]
    said = (
        ("backend", tree["backend"]),
        ("server", design["server"]),
        ("GPU", design["gpu"]),
        ("repeats", f"{len(tree['repeats']):,}"),
        ("phase order", design["order"]),
        ("isolation", design["isolation"]),
        ("seed", str(design["seed"])),
    )
    return Artefact(
        path=path,
        digest=digest,
        kind="lab",
        title=f"{tree['kv_lab']}: {tree['question']}",
        entries=tuple(_entry(row, tree) for row in tree["summary"]),
        lead=" ".join(f"{line[:1].upper()}{line[1:]}." for line in tree["conclusion"][:1]),
        facts=said,
        blocks=tuple(_blocks(tree)),
        config=flat_config(design),
    )


def _entry(row: Tree, tree: Tree) -> Entry:
    design, phase = tree["design"], row["phase"]
    metrics = {name: None if each is None else each["mean"] for name, each in row["metrics"].items()}
    same = ("requests_per_s", "output_tokens_per_s", "ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms")
    return Entry(
        name=_where(row["at"]) + phase,
        figures=Figures(
            requests=row["completed"], hit_rate=metrics["hit_share"], **{name: metrics[name] for name in same}
        ),
        model=_model(design["server"]),
        gpu=design["gpu"],
        workload=row["family"],
        cache=_cache(phase, design),
        order=design["order"],
        backend=tree["backend"],
        more=tuple((label, unit, metrics[name]) for label, unit, name in _MORE),
        curves={
            each["latency"]: [(percent, ms) for percent, ms in each["curve"]]
            for each in tree["percentiles"]
            if (each["point"], each["phase"]) == (row["point"], phase)
        },
    )


def _cache(phase: str, design: Tree) -> str:
    """Whether the phase had a prefix cache; empty where only the server's line says."""
    if phase in _ON:
        return "on"
    if phase in _OFF:
        return "off" if design["cold"] == "caching_off" else "on, nothing shared"
    return ""


def _model(line: str) -> str:
    words = shlex.split(line)
    return words[2] if words[:2] == ["vllm", "serve"] and len(words) > 2 else ""


def _where(at: Tree) -> str:
    return "".join(f"{name} {value:g}, " for name, value in at.items())


def _blocks(tree: Tree) -> Iterator[Block]:
    yield listed_block("Key results", tree["key_results"])
    effects = [each for each in tree["effects"] if each["difference"] is not None]
    known = [each for each in effects if each["base_mean"] and each["low"] is not None]
    rows = [
        [_named(each), *(each[name] / abs(each["base_mean"]) for name in ("difference", "low", "high"))]
        for each in known
    ]
    if rows:
        yield {"kind": "intervals", "title": "Paired differences, as a share of the first phase", "rows": rows}
    if effects:
        head = ["", "first", "second", "difference", "from", "to", "pairs", "verdict"]
        yield table("Paired differences", head, [_row(each) for each in effects])
    phases = [
        {"point": _where(row["at"]).removesuffix(", ") or "-", "phase": row["phase"], "repeats": row["repeats"]}
        | {name: _shown(each) for name, each in row["metrics"].items() if each is not None}
        for row in tree["summary"]
    ]
    yield rows_block("Phases", phases)
    requests = [
        {"point": each["point"], "phase": each["phase"], "latency": each["latency"], "requests": each["requests"]}
        | {f"p{percent:g} ms": ms for percent, ms in each["curve"]}
        for each in tree["percentiles"]
    ]
    if requests:
        yield rows_block("Requests", requests)
    if tree["notes"]:
        yield listed_block("Notes", tree["notes"])


def _named(each: Tree) -> str:
    metric = each["metric"].removesuffix("_ms").replace("_", " ")
    return f"{_where(each['at'])}{metric}: {each['phase']} less {each['base']}"


def _row(each: Tree) -> list[str]:
    figures = [number(each[name]) for name in ("base_mean", "phase_mean", "difference", "low", "high")]
    verdict = _VERDICTS.get(each["verdict"], str(each["verdict"]))
    return [_named(each), *figures, f"{each['pairs']:,} {each['unit']}", verdict]


def _shown(each: Tree) -> object:
    """A mean with its interval, alone where it is of one repeat."""
    return each["mean"] if each["half_width"] is None else each
