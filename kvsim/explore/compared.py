"""Differences, explanations and recommendations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvsim.explore.artefact import (
    Artefact,
    Block,
    Entry,
    Figures,
    Tree,
    ensure_version,
    listed_block,
    plus_minus,
    table,
)
from kvsim.launch import read_launch_line
from kvsim.record.labels import COMPONENT_LABELS, number, percent, system_label


def is_difference(tree: Tree) -> bool:
    """Whether ``kvsim diff`` wrote it."""
    return all(name in tree for name in ("a", "b", "systems", "keys", "runs", "tie_share"))


def is_explanation(tree: Tree) -> bool:
    """Whether ``kvsim explain`` wrote it."""
    return all(name in tree for name in ("case", "system", "waterfall", "removals", "tie_share"))


def is_recommendation(tree: Tree) -> bool:
    """Whether ``kvsim recommend`` wrote it."""
    return all(name in tree for name in ("asked", "looked", "best", "pareto", "conclusion"))


def difference_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of a difference, an entry a pair of systems."""
    ensure_version(tree["version"])
    blocks: list[Block] = []
    entries = []
    for pair in tree["systems"]:
        name = f"{system_label(pair['a'])} against {system_label(pair['b'])}"
        blocks += _pair(name, pair, len(tree["systems"]) > 1)
        entries.append(Entry(name=name, system=pair["b"], figures=_of_b(pair, tree), workload=tree["source"]))
    keys = [[each["key"], str(each["a"]), str(each["b"])] for each in tree["keys"]]
    if keys:
        blocks.append(table("Keys that differ", ["key", "A", "B"], keys))
    if tree["notes"]:
        blocks.append(listed_block("Notes", tree["notes"]))
    said = [
        ("A", tree["a"]),
        ("B", tree["b"]),
        ("runs", f"{tree['runs']:,} of {tree['requests']:,} requests, {tree['source']}, seed {tree['seed']}"),
        ("intervals", f"{percent(tree['confidence'])}, all of them together"),
    ]
    return Artefact(
        path=path,
        digest=digest,
        kind="difference",
        title=f"{Path(tree['a']).name} against {Path(tree['b']).name}",
        entries=tuple(entries),
        lead="No request differs in any run." if tree["identical"] else "",
        facts=tuple(said),
        blocks=tuple(blocks),
        sides=(
            *((tree["a"], each["a"]) for each in tree["systems"]),
            *((tree["b"], each["b"]) for each in tree["systems"]),
        ),
    )


def _of_b(pair: Tree, tree: Tree) -> Figures:
    found = {each["figure"]: each["b"] for each in pair["figures"]}
    same = ("requests_per_s", "output_tokens_per_s", "ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "e2e_mean_ms")
    figures = {name: found.get(name) for name in same}
    return Figures(requests=tree["requests"], hit_rate=found.get("prefix_hit_rate"), **figures)


def _pair(name: str, pair: Tree, several: bool) -> Iterator[Block]:
    of = f", {name}" if several else ""
    yield intervals(f"Paired differences, B less A as a share of A{of}", pair["figures"])
    yield table(
        f"Both sides{of}", ["figure", "A", "B", "B less A", "verdict"], [_row(each) for each in pair["figures"]]
    )
    yield table(
        f"Parts of mean TTFT (ms){of}",
        ["part", "A", "B", "B less A", "verdict"],
        [_row(each) for each in pair["parts"]],
    )


def intervals(title: str, figures: Sequence[Tree]) -> Block:
    """A picture of relative differences with their intervals; of figures that both sides have."""
    rows = []
    for each in figures:
        base, apart = each["a"], each["difference"]
        if base and apart is not None:
            half = each["half_width"] or 0.0
            low, high = sorted(((apart - half) / base, (apart + half) / base))
            rows.append([_label(each["figure"]), apart / base, low, high])
    return {"kind": "intervals", "title": title, "rows": rows}


def _label(name: str) -> str:
    return COMPONENT_LABELS.get(name, name.replace("_", " "))


def _row(each: Tree) -> list[str]:
    apart = plus_minus(each["difference"], each["half_width"])
    verdict = "not told apart" if each["verdict"] == "open" else str(each["verdict"])
    return [_label(each["figure"]), number(each["a"]), number(each["b"]), apart, verdict]


def explanation_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of an explanation."""
    ensure_version(tree["version"])
    bands = {f"at {band['at']}" if band["at"] != "mean" else "mean": band["parts_ms"] for band in tree["waterfall"]}
    named = {at: {COMPONENT_LABELS.get(key, key): value for key, value in parts.items()} for at, parts in bands.items()}
    blocks: list[Block] = [
        {
            "kind": "waterfall",
            "title": "What TTFT consists of, in run 1",
            "series": [[at, parts] for at, parts in named.items()],
        }
    ]
    rows: list[list[str]] = []
    for one in tree["removals"]:
        cells = [plus_minus(each["difference"], each["half_width"]) for each in one["ttft"]]
        rows.append([one["label"], *(cells or ["-"] * 4), str(one["impossible"] or "")])
    blocks.append(table("TTFT without a cause: change (ms)", ["without", "mean", "p50", "p90", "p99", ""], rows))
    entry = Entry(
        name=system_label(tree["system"]),
        system=tree["system"],
        workload=tree["source"],
        figures=Figures(
            requests=tree["requests"],
            ttft_mean_ms=tree["ttft"]["ttft_mean_ms"],
            ttft_p99_ms=tree["ttft"]["ttft_p99_ms"],
        ),
    )
    return Artefact(
        path=path,
        digest=digest,
        kind="explanation",
        title=f"Where TTFT of {Path(tree['case']).name} goes",
        entries=(entry,),
        facts=(
            ("case", tree["case"]),
            ("runs", f"{tree['runs']:,} of {tree['requests']:,} requests, seed {tree['seed']}"),
        ),
        blocks=tuple(blocks),
    )


def recommendation_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of a recommendation, an entry a deployment among the best."""
    asked = tree["asked"]
    model = read_launch_line(asked["line"]).model
    entries = tuple(_place(each, asked, model, tree["rate_per_s"]) for each in tree["best"])
    points = [{"name": each["name"], **{name: each[name] for name in _POINT}} for each in tree["pareto"]]
    blocks: list[Block] = [
        listed_block("Why", [each for each in (tree["reason"], *tree["remarks"]) if each]),
        table(
            "The best",
            ["deployment", "GPUs", "share of the limits", "good requests", "output tokens/s and GPU"],
            [_best(each) for each in tree["best"]],
        ),
        _points(points),
    ]
    if tree["warnings"]:
        blocks.append(listed_block("Warnings", tree["warnings"]))
    said = (
        ("server", asked["line"]),
        ("GPUs", f"up to {asked['gpus']:,} x {asked['gpu']}"),
        ("workload", asked["workload"]),
        ("SLO", ", ".join(f"{key} {value}" for key, value in asked["slo"].items() if value is not None)),
        ("rate", f"{number(tree['rate_per_s'])} requests/s"),
        ("looked at", f"{tree['looked']['candidates']:,} deployments, {tree['looked']['simulated']:,} simulated"),
    )
    return Artefact(
        path=path,
        digest=digest,
        kind="recommendation",
        title=f"Where to serve {model}",
        entries=entries,
        lead=tree["conclusion"],
        facts=said,
        blocks=tuple(blocks),
    )


_POINT = ("system", "gpus", "output_tokens_per_s_per_gpu", "tpot_mean_ms", "ttft_late_ms", "keeps")


def _points(points: Sequence[Mapping[str, Any]]) -> Block:
    head = ["name", *_POINT]
    rows = [[each[name] for name in head] for each in points]
    return {
        "kind": "rows",
        "title": "All that were simulated",
        "head": head,
        "rows": rows,
        "x": "output_tokens_per_s_per_gpu",
        "y": "tpot_mean_ms",
    }


def _best(each: Tree) -> list[str]:
    use, good = each["slo_use"], each["good_share"]
    return [
        each["name"],
        f"{each['gpus']:,}",
        plus_minus(use["mean"], use["half_width"]),
        percent(good["mean"]),
        number(each["output_tokens_per_s_per_gpu"]),
    ]


def _place(each: Tree, asked: Tree, model: str, rate_per_s: float) -> Entry:
    return Entry(
        name=each["name"],
        system=each["system"],
        model=model,
        gpu=asked["gpu"],
        workload=asked["workload"],
        cache="on, " + "+".join(each["tiers"]) if each["tiers"] else "",
        figures=Figures(
            requests_per_s=rate_per_s,
            output_tokens_per_s=each["output_tokens_per_s_per_gpu"] * each["gpus"],
            ttft_mean_ms=each["ttft_ms"]["mean"],
            tpot_mean_ms=each["tpot_ms"]["mean"],
            e2e_mean_ms=each["e2e_ms"].get("mean"),
            hit_rate=each["prefix_hit_rate"],
        ),
    )
