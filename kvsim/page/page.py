"""The page: conclusion and reasons, tables, charts, requests, studies, configuration, and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from kvsim.config.kinds import canonical, gpu_of_role, roles_differ
from kvsim.page import charts
from kvsim.page.colours import variables
from kvsim.page.heat import heat_maps, scale
from kvsim.page.library import chart_library
from kvsim.page.markup import Html, element, embedded_script, together
from kvsim.page.sample import requests_table
from kvsim.page.series import all_over_time, curves
from kvsim.page.settings import settings
from kvsim.page.studies import studied
from kvsim.page.tables import grid, of_terminal, side_by_side, waterfall
from kvsim.page.trust import trust
from kvsim.record.figures import SystemSummary
from kvsim.record.labels import number, percent, system_label
from kvsim.record.result import SystemResult
from kvsim.record.summary import e2e_s, rows_of, tpot_s, ttft_s
from kvsim.report import caveats
from kvsim.report.atomic import replacing
from kvsim.report.fleet_tables import fleet_tables
from kvsim.report.money import cost_lines
from kvsim.report.prediction import prediction_tables
from kvsim.report.report import Report
from kvsim.report.tables import facts
from kvsim.report.tier_tables import sources_table, tiers_table

_MOST_INSTANCE_ROWS = 300
_UNFOLDED = 2
"""Systems up to which each one's tiers stand open."""
_OPEN_REASONS = 8
"""Reasons up to which they stand open."""
_NAMED = 3
"""Systems in the title."""
NO_DETAIL = "This run kept its requests alone, and nothing of what its instances did over time (detail=True keeps it)."
HEAD = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="kvsim">'
"""How a page begins."""
Section = tuple[str, str, Html]
"""Address on the page, title, content."""


def html_of(report: Report, results: Sequence[SystemResult]) -> str:
    """The page of a run: ``report``, and the ``results`` that it tells of, which kept their detail for all of it.

    Raises a ``KvsimError`` where the package with the charts is missing.
    """
    library = chart_library()
    sections = list(_sections(report, results))
    menu = element("nav", *(element("a", title, href=f"#{name}") for name, title, _ in sections), aria_label="Sections")
    parts = [element("section", element("h2", title), content, id=name) for name, title, content in sections]
    title = _title(report)
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{variables(dark=True)}}}}}"
    style = f":root{{{variables(dark=False)}}}{dark}{_asset('page.css')}"
    return together(
        Html(HEAD + '<meta name="viewport" content="width=device-width,initial-scale=1">'),
        Html('<link rel="icon" href="data:,"><meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Html(style)),
        Html("</head><body>"),
        element("header", element("h1", title), _facts(report)),
        menu,
        element("main", *parts),
        element("script", library),
        element("script", embedded_script(_asset("page.js"))),
        Html("</body></html>\n"),
    )


def write_html(path: Path, report: Report, results: Sequence[SystemResult]) -> None:
    """Write the page, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
    text = html_of(report, results)
    with replacing(path) as file:
        file.write(text.encode())


def _sections(report: Report, results: Sequence[SystemResult]) -> Iterator[Section]:
    yield "conclusion", "Conclusion", _conclusion(report)
    if report.results:
        yield "compared", "Side by side" if len(report.results) > 1 else "Figures", _tables(report)
        yield "ttft", "Where TTFT goes", _where_ttft_goes(report.results)
        yield "latencies", "Latencies", _latencies(report, results)
        yield "time", "Over time", _over_time(results)
        yield "instances", "Instances", _instances(results)
        yield "requests-section", "Requests", requests_table(results)
    if report.studies:
        yield "studies", "Studies", studied(report.studies)
    yield "trust", "Provenance and trust", trust(report)
    yield "configuration", "Configuration", settings(report.config)


def _title(report: Report) -> str:
    gpus = f"{report.cluster.gpus:,} x {gpus_of(report)}"
    names = [system_label(each.name) for each in report.results]
    compared = names if len(names) <= _NAMED else [*names[:_NAMED], f"{len(names) - _NAMED} more"]
    return f"{report.config.model.name} on {gpus}: {', '.join(compared)}"


def gpus_of(report: Report) -> str:
    """The kinds of its GPUs."""
    has_roles = report.cluster.prefill_instances > 0 and roles_differ(report.config)
    roles = ("colocated", "prefill", "decode") if has_roles else ("colocated",)
    if report.run.mode != "single" and report.config.cluster.pools:
        kinds = [pool.gpu for pool in report.config.cluster.pools]
        own = [gpu_of_role(report.config, role) for role in roles[1:]]
        return " and ".join(dict.fromkeys(canonical(gpu) for gpu in (*kinds, *own)))
    return " and ".join(dict.fromkeys(gpu_of_role(report.config, role) for role in roles))


def _facts(report: Report) -> Html:
    return element("dl", *(together(element("dt", name), element("dd", text)) for name, text in facts(report)))


def _conclusion(report: Report) -> Html:
    broken = [
        element("p", f"CONSERVATION VIOLATED, the figures below are wrong. {law}", class_="violated", role="alert")
        for law in caveats.violations(report)
    ]
    reasons = reasons_of(report)
    why = [_listed(reasons[:_OPEN_REASONS])] if reasons else []
    if more := reasons[_OPEN_REASONS:]:
        why.append(_folded(f"{len(more)} more, which explain less", _listed(more)))
    count = len(caveats.warnings(report))
    warned = f"{count} warning{'s' if count != 1 else ''}"
    limits = [element("p", element("a", warned, href="#trust"), " on what limits these figures.")] if count else []
    costs = (element("p", line) for line in cost_lines(report.results))
    return together(*broken, element("p", report.conclusion, class_="conclusion"), *costs, *why, *limits)


def _listed(sentences: Sequence[str]) -> Html:
    return element("ul", *(element("li", each) for each in sentences), class_="reasons")


def reasons_of(report: Report) -> list[str]:
    """Sentences of the report's ``why``, each once; whose they are, where several systems are compared."""
    systems = {result.name for result in report.results}
    whose: dict[str, set[str]] = {}
    for each in report.why:
        whose.setdefault(each.sentence, set()).update(systems if each.system is None else {each.system})
    return [
        sentence if found == systems else f"{', '.join(map(system_label, sorted(found)))}: {sentence}"
        for sentence, found in whose.items()
    ]


def _tables(report: Report) -> Html:
    results = report.results
    tables = [side_by_side(results)]
    if report.run.mode == "predict":
        tables += [of_terminal(next(prediction_tables(result)), "Latencies by percentile") for result in results]
    elif report.run.mode != "pd":
        tables.append(of_terminal(sources_table(results)))
        tiers = [of_terminal(tiers_table(result)) for result in results if result.cache.tiers]
        tables += [_folded(f"Tiers of all {len(tiers)}", together(*tiers))] if len(tiers) > _UNFOLDED else tiers
    tables += [of_terminal(table) for table in fleet_tables(results)]
    return together(*tables)


def _folded(title: str, content: Html) -> Html:
    return element("details", element("summary", title), content)


def _where_ttft_goes(results: Sequence[SystemSummary]) -> Html:
    shown = [result for result in results if result.ttft_ms.mean is not None]
    if not shown:
        return element("p", "No request was completed.")
    bars = (
        charts.waterfall("waterfall-mean", "mean", "In the mean of all measured requests", shown),
        charts.waterfall("waterfall-p99", "p99", "At p99: mean over requests between p98.5 and p99.5", shown),
    )
    return together(element("div", *bars, class_="two"), waterfall(shown))


def _latencies(report: Report, results: Sequence[SystemResult]) -> Html:
    slo = report.results[0].goodput.slo
    tables = [(result.name, rows_of(result, result.measured)) for result in results]
    made = (
        charts.cdf(name, label, curves([(system, of(table) * 1e3) for system, table in tables]), limit)
        for name, label, of, limit in (
            ("cdf-ttft", "TTFT", ttft_s, slo.ttft_ms),
            ("cdf-tpot", "TPOT", tpot_s, slo.tpot_ms),
            ("cdf-e2e", "E2E", e2e_s, None),
        )
    )
    shown = [chart for chart in made if chart is not None]
    return element("div", *shown, class_="three") if shown else element("p", "No request was measured.")


def _over_time(results: Sequence[SystemResult]) -> Html:
    series = all_over_time(results)
    if not series:
        return element("p", NO_DETAIL)
    first = results[0]
    window_s = None if first.window_is_whole else first.window_s
    made = (charts.timeline(f"time-{place}", place, series, window_s) for place in range(len(charts.OVER_TIME)))
    said = [] if window_s is None else [element("p", "Shaded: the window that is measured.", class_="said")]
    return together(*said, element("div", *made, class_="two"))


def _instances(results: Sequence[SystemResult]) -> Html:
    maps = [found for result in results if (found := heat_maps(result)) is not None]
    if not maps:
        return element("p", NO_DETAIL)
    tables = (_instance_table(result) for result in results)
    return together(scale(), element("div", *maps, class_="two maps"), *tables)


def _instance_table(result: SystemResult) -> Html:
    from kvsim.record.frames import instances_frame

    rows = instances_frame(result).rows(named=True)
    shown = rows[:_MOST_INSTANCE_ROWS]
    body = [
        [
            f"{row['role']} {row['instance']}",
            f"{row['requests']:,}",
            percent(row["busy"]),
            percent(row["kv_usage"]),
            percent(row["kv_usage_peak"]),
            percent(row["hit_rate"]),
            number(row["running"]),
            number(row["waiting"]),
            f"{row['preemptions']:,}",
            f"{row['evicted_blocks']:,}",
        ]
        for row in shown
    ]
    head = ["instance", "requests", "busy", "KV", "KV peak", "hit rate", "running", "waiting", "preemptions", "evicted"]
    of = f", the first {len(shown):,} of {len(rows):,}" if len(shown) < len(rows) else ""
    caption = f"Instances of {system_label(result.name)}, over the whole run{of}"
    return _folded(caption, grid(caption, head, body))


def _asset(name: str) -> str:
    return files("kvsim.page").joinpath(name).read_text(encoding="utf-8")
