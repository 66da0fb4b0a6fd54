"""Validations: what was measured beside what kvsim, and others, predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from kvsim.explore.artefact import Artefact, Block, Entry, Figures, Tree, cache_of, flat_config, listed_block, table
from kvsim.record.labels import number
from kvsim.units import MILLI

_ERRORS = ("ttft_mean", "ttft_p90", "e2e_mean", "e2e_p90", "itl_mean")
Pair = tuple[str, str, float, float]
"""Where, metric, measured and predicted."""


def is_loads(tree: Tree) -> bool:
    """Whether ``kvsim validate load --json`` wrote it."""
    return set(tree) == {"profile", "warnings", "loads"}


def is_measured_run(tree: Tree) -> bool:
    """Whether ``kvsim validate run --json`` wrote it."""
    return all(name in tree for name in ("run", "vllm_version", "errors", "means", "throughput", "steps", "config"))


def is_leaderboard(tree: Tree) -> bool:
    """Whether ``kvsim validate leaderboard --json`` wrote it."""
    return set(tree) == {"runs", "summary"} and isinstance(tree["summary"], dict) and "peers" in tree["summary"]


def loads_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of measured loads, an entry a load."""
    pairs: list[Pair] = []
    blocks: list[Block] = []
    entries = []
    for load in tree["loads"]:
        measured, predicted, name = load["measured"], load["predicted"], load["measured"]["name"]
        found = [] if predicted is None else list(_load_pairs(name, measured, predicted))
        pairs += found
        rows = [[metric, number(theirs), number(ours), _off(ours, theirs)] for _, metric, theirs, ours in found]
        blocks.append(table(name, ["", "measured", "predicted", "error"], rows))
        said = [*load["warnings"], *measured["assumed"]]
        if said:
            blocks.append(listed_block(f"{name}: to know", said))
        entries.append(_load_entry(name, measured, predicted, load["error_pct"]))
    if tree["warnings"]:
        blocks.append(listed_block("Warnings", tree["warnings"]))
    clients = sorted({load["measured"]["client"] for load in tree["loads"]})
    return Artefact(
        path=path,
        digest=digest,
        kind="validation",
        title=f"Loads that {', '.join(clients)} measured",
        entries=tuple(entries),
        facts=(("profile", tree["profile"] or "-"), ("loads", f"{len(tree['loads']):,}")),
        blocks=(_against(pairs), *blocks),
    )


def _load_pairs(name: str, measured: Tree, predicted: Tree) -> Iterator[Pair]:
    for metric in ("ttft", "itl", "e2e"):
        theirs, ours = measured[f"{metric}_s"], predicted[f"{metric}_s"]
        for figure in (each for each in ("mean", "p50", "p90", "p99") if each in theirs and each in ours):
            yield name, f"{metric.upper()} {figure} (ms)", theirs[figure] / MILLI, ours[figure] / MILLI
    if measured["tpot_mean_s"] is not None and predicted["tpot_mean_s"] is not None:
        yield name, "TPOT mean (ms)", measured["tpot_mean_s"] / MILLI, predicted["tpot_mean_s"] / MILLI
    for rate in ("requests_per_s", "output_tokens_per_s"):
        if measured[rate] is not None and predicted[rate] is not None:
            yield name, rate.replace("_per_", "/").replace("_", " "), measured[rate], predicted[rate]


def _load_entry(name: str, measured: Tree, predicted: Tree | None, errors: Mapping[str, float]) -> Entry:
    found = predicted or {}

    def ms(metric: str, figure: str) -> float | None:
        value = found.get(metric, {}).get(figure)
        return None if value is None else value / MILLI

    tpot_s = found.get("tpot_mean_s")
    return Entry(
        name=name,
        model=measured["model"] or "",
        workload=f"in={measured['prompt_tokens_mean']:.0f}, out={measured['output_tokens_mean']:.0f}",
        backend="measured",
        figures=Figures(
            requests=measured["requests"],
            requests_per_s=found.get("requests_per_s"),
            output_tokens_per_s=found.get("output_tokens_per_s"),
            ttft_mean_ms=ms("ttft_s", "mean"),
            ttft_p99_ms=ms("ttft_s", "p99"),
            tpot_mean_ms=None if tpot_s is None else tpot_s / MILLI,
            e2e_mean_ms=ms("e2e_s", "mean"),
            off_pct=errors.get("ttft_mean", errors.get("e2e_mean")),
        ),
    )


def measured_run_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of a measured run, request by request."""
    config, rates = tree["config"], tree["throughput"]
    means = [
        (name, each)
        for name, each in tree["means"].items()
        if each["measured_ms"] is not None and each["predicted_ms"] is not None
    ]
    pairs: list[Pair] = [
        ("means", f"{name.replace('_', ' ')} (ms)", each["measured_ms"], each["predicted_ms"]) for name, each in means
    ]
    names = ("mean", "p50", "p90", "p95", "p99", "mape")
    errors = [
        [name.replace("_", " "), *(_percent(each[f"{figure}_pct"]) for figure in names)]
        for name, each in tree["errors"].items()
    ]
    entry = Entry(
        name=tree["run"],
        model=config["model"]["name"],
        gpu=tree["gpu"] or config["hardware"]["gpu"],
        cache=cache_of(config),
        backend="measured",
        figures=Figures(
            requests=tree["requests"],
            output_tokens_per_s=rates["predicted_output_tokens_per_s"],
            ttft_mean_ms=tree["means"]["ttft"]["predicted_ms"],
            tpot_mean_ms=tree["means"]["tpot"]["predicted_ms"],
            e2e_mean_ms=tree["means"]["e2e"]["predicted_ms"],
            off_pct=tree["errors"]["ttft"]["mean_pct"],
        ),
    )
    rows = [[metric, number(theirs), number(ours), _off(ours, theirs)] for _, metric, theirs, ours in pairs]
    blocks: list[Block] = [
        _against(pairs),
        table("Means", ["", "measured", "predicted", "error"], rows),
        table("Errors (%); the last: the mean over requests of the absolute one", ["", *names], errors),
    ]
    if tree["warnings"]:
        blocks.append(listed_block("Warnings", tree["warnings"]))
    said = (
        ("vLLM", tree["vllm_version"] or "unknown"),
        ("profile", tree["profile"] or "-"),
        ("requests", f"{tree['requests']:,}, {tree['failed']:,} failed"),
    )
    return Artefact(
        path=path,
        digest=digest,
        kind="validation",
        title=f"Measured run {tree['run']}",
        entries=(entry,),
        facts=said,
        blocks=tuple(blocks),
        config=flat_config(config),
    )


def leaderboard_artefact(path: Path, digest: str, tree: Tree) -> Artefact:
    """The page of recorded runs, an entry a run, and how near others came."""
    pairs: list[Pair] = []
    rows, entries = [], []
    for name, run in tree["runs"].items():
        for window, found in run.get("windows", {}).items():
            errors, predicted = found["error_pct"], found["predicted"]
            queued = ", queued" if found["saturated"] else ""
            rows.append([f"{name}, {window}{queued}", *(_percent(errors.get(metric)) for metric in _ERRORS)])
            if not found["saturated"]:
                pairs += [
                    (
                        f"{name}, {window}",
                        metric.replace("_", " ").upper(),
                        predicted[metric] / (1 + error / 100),
                        predicted[metric],
                    )
                    for metric, error in errors.items()
                    if error > -100
                ]
        entries.append(_recorded_entry(name, run))
    peers = _peers(tree["summary"]["peers"])
    blocks: list[Block] = [_against(pairs), peers] if peers["rows"] else [_against(pairs)]
    blocks.append(table("Errors by window (%)", ["", *(name.replace("_", " ") for name in _ERRORS)], rows))
    missing = [f"{name}: {why}" for name, why in tree["summary"]["not_predicted"].items()]
    if missing:
        blocks.append(listed_block("Not predicted", missing))
    return Artefact(
        path=path,
        digest=digest,
        kind="validation",
        title=f"{len(tree['runs']):,} recorded runs, beside other simulators",
        entries=tuple(entries),
        facts=(("runs", f"{len(tree['runs']):,}"), ("peers", ", ".join(tree["summary"]["peers"]) or "-")),
        blocks=tuple(blocks),
    )


def _recorded_entry(name: str, run: Tree) -> Entry:
    windows = run.get("windows", {})
    found: Tree = windows.get("all") or next(iter(windows.values()), {"predicted": {}, "error_pct": {}})
    predicted, errors = found["predicted"], found["error_pct"]
    return Entry(
        name=name,
        backend="measured",
        figures=Figures(
            ttft_mean_ms=predicted.get("ttft_mean"),
            ttft_p99_ms=predicted.get("ttft_p99"),
            e2e_mean_ms=predicted.get("e2e_mean"),
            off_pct=errors.get("ttft_mean", errors.get("e2e_mean")),
        ),
    )


def _peers(peers: Tree) -> Block:
    rows = []
    for peer, found in peers.items():
        for who, errors in (("kvsim", found["kvsim"]), (peer, found["peer"])):
            cells = [_spread(errors.get(metric)) for metric in _ERRORS]
            rows.append([f"{who}: {found['over']} of {peer}", *cells])
    head = ["absolute error, median / mean (%)", *(name.replace("_", " ") for name in _ERRORS)]
    return table("Beside other simulators, over what both predicted", head, rows)


def _spread(found: Tree | None) -> str:
    return "-" if found is None else f"{number(found['median_pct'])} / {number(found['mean_pct'])}"


def _against(pairs: list[Pair]) -> Block:
    return {"kind": "against", "title": "Predicted against measured", "rows": [list(pair) for pair in pairs]}


def _off(predicted: float, measured: float) -> str:
    return _percent(100 * (predicted / measured - 1)) if measured else "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}%"
