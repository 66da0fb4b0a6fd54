"""Reports of runs, and tables of their requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvsim.experiments.files import flat
from kvsim.explore.artefact import (
    Artefact,
    Block,
    Entry,
    Figures,
    Tree,
    cache_of,
    ensure_version,
    flat_config,
    listed_block,
    table,
)
from kvsim.record.labels import COMPONENT_LABELS, number, percent, system_label

SECTIONS = ("run", "config", "workload", "results", "calibration", "cluster")
_PERCENTS = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
_LATENCIES = {"TTFT": "ttft_ms", "TPOT": "tpot_ms", "ITL": "itl_ms", "E2E": "e2e_ms"}


def is_run(tree: Tree) -> bool:
    """Whether this is what ``--report-json`` of a mode or of ``predict`` wrote."""
    return all(name in tree for name in SECTIONS) and isinstance(tree["results"], list)


def run_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of a run, an entry a system."""
    run, config, facts = tree["run"], tree["config"], tree["workload"]
    ensure_version(run["version"])
    model, gpu = config["model"]["name"], config["hardware"]["gpu"]
    mode = run["mode"]
    entries = tuple(_entry(result, tree, model, gpu) for result in tree["results"])
    gpus = tree["cluster"]["gpus"]
    said = [
        ("model", f"{model} {config['model']['weight_dtype']}"),
        ("hardware", f"{gpus:,} x {gpu}"),
        ("workload", f"{facts['source']}, {facts['requests']:,} requests"),
        ("step times", str(tree["calibration"]["readiness"])),
        ("run", f"{mode}, preset {run['preset'] or '-'}, seed {run['seed']}, {run['status']}"),
    ]
    if "launch" in tree:
        said.insert(0, ("server", tree["launch"]["line"]))
    return Artefact(
        path=path,
        digest=digest,
        kind="run",
        title=f"{model} on {gpus:,} x {gpu}, {mode}",
        entries=entries,
        facts=tuple(said),
        blocks=tuple(_blocks(tree)),
        config=flat_config(config),
    )


def _entry(result: Tree, tree: Tree, model: str, gpu: str) -> Entry:
    speed, name = result["throughput"], result["name"]
    curves = {label: _quantiles(result[key]) for label, key in _LATENCIES.items()}
    return Entry(
        name=system_label(name),
        system=name,
        model=model,
        gpu=gpu,
        workload=tree["workload"]["source"],
        cache=cache_of(tree["config"], result["cache"]["tiers"]),
        figures=Figures(
            requests=result["requests"]["measured"],
            requests_per_s=speed["requests_per_s"],
            output_tokens_per_s=speed["output_tokens_per_s"],
            ttft_mean_ms=result["ttft_ms"]["mean"],
            ttft_p99_ms=result["ttft_ms"]["p99"],
            tpot_mean_ms=result["tpot_ms"]["mean"],
            e2e_mean_ms=result["e2e_ms"]["mean"],
            hit_rate=result["cache"]["prefix_hit_rate"],
        ),
        more=tuple(_more(result)),
        parts={
            where: {COMPONENT_LABELS.get(key, key): value for key, value in parts.items()}
            for where, parts in result["attribution_ms"].items()
        },
        curves={label: points for label, points in curves.items() if points},
    )


def _quantiles(latency: Tree) -> list[tuple[float, float]]:
    return [(share, latency[name]) for name, share in _PERCENTS.items() if latency[name] is not None]


def _more(result: Tree) -> Iterator[tuple[str, str, float | None]]:
    good, speed = result["goodput"], result["throughput"]
    yield "goodput", "/s", good["requests_per_s"]
    yield "requests within the SLO", "share", good["share"]
    yield "tokens/s and GPU", "/s", speed["tokens_per_s_per_gpu"]
    for label, key in _LATENCIES.items():
        for quantile in ("p50", "p90", "p99"):
            if (label, quantile) != ("TTFT", "p99"):
                yield f"{label} {quantile}", "ms", result[key][quantile]
    yield "preemptions", "", result["preemptions"]
    yield "evicted blocks", "", result["cache"]["evictions"]
    for side, use in result["utilisation"].items():
        yield f"{side}: busy", "share", use["busy"]
        yield f"{side}: KV in use", "share", use["kv_usage"]


def _blocks(tree: Tree) -> Iterator[Block]:
    several = len(tree["results"]) > 1
    why = [
        (f"{system_label(each['system'])}: " if several and each["system"] else "") + each["sentence"]
        for each in tree.get("why", ())
    ]
    if why:
        yield listed_block("Why", why)
    warned = [*tree["calibration"]["warnings"], *tree["cluster"]["warnings"], *tree["workload"]["lint"]]
    for result in tree["results"]:
        if not result["conservation"]["ok"]:
            warned.insert(0, f"CONSERVATION VIOLATED by {result['name']}: its figures are wrong")
        if not result["steady"]["ok"]:
            warned.append(f"{system_label(result['name'])}: no steady state: {result['steady']['why']}")
    if warned:
        yield listed_block("Warnings", warned)
    rows = [_tier_row(result) for result in tree["results"]]
    yield table("Where prompt tokens come from", ["system", "hit", "by tier", "loads", "evicted blocks"], rows)
    for name, answer in tree.get("studies", {}).items():
        yield from _study(name, answer)


def _tier_row(result: Tree) -> list[str]:
    cache = result["cache"]
    tiers = ", ".join(f"{name} {percent(share)}" for name, share in cache["by_tier"].items())
    return [
        system_label(result["name"]),
        percent(cache["prefix_hit_rate"]),
        tiers or "-",
        f"{cache['loads']:,}",
        f"{cache['evictions']:,}",
    ]


def _study(name: str, answer: Tree) -> Iterator[Block]:
    rows = answer.get("rows")
    if isinstance(rows, list) and rows:
        yield rows_block(f"Study {name}", rows)


def rows_block(title: str, rows: list[dict[str, Any]]) -> Block:
    """A table whose columns can be drawn against each other. Intervals are objects of ``mean`` and ``half_width``."""
    lines = [dict(_cells(row)) for row in rows]
    head = list(dict.fromkeys(name for line in lines for name in line))
    return {"kind": "rows", "title": title, "head": head, "rows": [[line.get(name) for name in head] for line in lines]}


def _cells(row: Tree, above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in row.items():
        if isinstance(value, dict) and set(value) == {"mean", "half_width"}:
            yield above + key, [value["mean"], value["half_width"]]
        elif isinstance(value, dict):
            yield from _cells(value, f"{above}{key}.")
        elif isinstance(value, list):
            text = "; ".join(_shown(each) for each in value)
            yield above + key, text
        else:
            yield above + key, value


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in flat(value))
    return number(value) if isinstance(value, float) else str(value)
