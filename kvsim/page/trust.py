"""Where the figures come from, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvsim.page.markup import Html, element, together
from kvsim.record.labels import counted, system_label
from kvsim.report import caveats
from kvsim.report.report import Report

_LEVELS = {
    "measured": "measured: the step times are fitted to measurements of this model, GPU and degree",
    "scaled": "scaled: the step times are those of the nearest measured instance, scaled",
    "roofline": "roofline: arithmetic of the data sheets, held against no measurement",
    "configured": "configured: the step times are those that the configuration gives",
}


def trust(report: Report) -> Html:
    """Calibration, laws, warnings and notes, seed and sources."""
    return together(
        element("h3", "Step times"),
        _facts(_calibration(report)),
        element("h3", "Laws"),
        _laws(report),
        *_listed("Warnings", caveats.warnings(report), "warning"),
        *_listed("Notes", caveats.notes(report), "note"),
        element("h3", "Provenance"),
        _facts(_provenance(report)),
        element("div", _facts(_machine(report)), id="machine"),
    )


def _calibration(report: Report) -> Iterator[tuple[str, object]]:
    found = report.calibration
    yield "level", _LEVELS.get(found.level, found.level)
    yield "in a word", found.readiness
    yield "profile", found.profile or "none"
    yield "method", found.method
    for name in ("description", "fit_error", "validity", "sources", "provenance"):
        value = getattr(found, name)
        if value:
            yield name.replace("_", " "), value
    if found.notes:
        yield "notes", found.notes


def _provenance(report: Report) -> Iterator[tuple[str, object]]:
    run, workload = report.run, report.workload
    yield "kvsim", f"{run.version}, mode {run.mode}, {'no preset' if run.preset is None else f'preset {run.preset}'}"
    yield "seed", str(run.seed)
    yield "workload", f"{workload.source} ({workload.format}), {workload.requests:,} requests"
    yield "its sha256", workload.sha256 or "none: it was made, from the seed"
    if report.launch is not None:
        yield "server's line", report.launch.line
        yield "understood as", report.launch.arguments
    yield "status", run.status
    yield (
        "the same again",
        "the same version, configuration, workload and seed give this page again, but for the lines below",
    )


def _machine(report: Report) -> Iterator[tuple[str, object]]:
    """What differs between two runs of one seed."""
    run = report.run
    yield "run at", run.started_at
    yield "took", f"{run.cpu_s:.1f} s of CPU, {run.wall_s:.1f} s, {run.peak_rss_bytes / 1e6:,.0f} MB"
    yield "engine", run.engine


def _laws(report: Report) -> Html:
    """How many were checked; those that do not hold stand at the top of the page."""
    said = []
    for result in report.results:
        checks = result.conservation.checks
        held = sum(check.ok for check in checks)
        said.append(f"{system_label(result.name)}: {held} of {counted(len(checks), 'law')} of conservation hold")
    return element("p", "; ".join(said) + ".")


def _listed(title: str, sentences: Sequence[str], kind: str) -> list[Html]:
    if not sentences:
        return []
    return [element("h3", title), element("ul", *(element("li", each) for each in sentences), class_=kind)]


def _facts(facts: Iterator[tuple[str, object]]) -> Html:
    pairs = (together(element("dt", name), element("dd", _told(value))) for name, value in facts)
    return element("dl", *pairs)


def _told(value: object) -> str:
    """Mappings and lists of a profile as lists."""
    if isinstance(value, Mapping):
        return element(
            "ul", *(element("li", f"{key}: ", _told(member)) for key, member in value.items()), class_="tree"
        )
    if isinstance(value, list | tuple):
        if all(isinstance(each, str | int | float) for each in value) and all(len(str(each)) < 20 for each in value):
            return ", ".join(map(str, value))
        return element("ul", *(element("li", _told(each)) for each in value), class_="tree")
    return str(value)
