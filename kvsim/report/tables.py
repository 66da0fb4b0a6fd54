"""The terminal report: what was simulated, what is compared side by side, the conclusion, studies, caveats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvsim.capacity.load_search import Load
from kvsim.config import derived
from kvsim.config.kinds import roles_differ
from kvsim.errors import ConfigError
from kvsim.modes.cluster import DeployedCluster, PdCluster, TieredCluster
from kvsim.reasons.reason import most_important
from kvsim.record.figures import Parts, SystemSummary
from kvsim.record.labels import COMPONENT_LABELS, counted, number, percent, rate, ratio, system_label
from kvsim.report import caveats
from kvsim.report.comparison import groups
from kvsim.report.conclude import conclude
from kvsim.report.fleet_tables import fleet_tables
from kvsim.report.kind_tables import kind_tables
from kvsim.report.money import cost_lines
from kvsim.report.prediction import prediction_tables
from kvsim.report.scaling import scaling_lines
from kvsim.report.sections import Sections, WorkloadFacts
from kvsim.report.tier_tables import sources_table, tiers_table, variants_table
from kvsim.report.whole import print_whole
from kvsim.spec import find_model
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import studies
from kvsim.study.words import preamble

_NARROW_BAR = 9
_WIDE_BAR = 20
"""Characters of a waterfall, on a terminal of up to 100 columns and on a wider one."""


def print_report(console: Console, report: Sections) -> None:
    """Print ``report`` for a person; 80 columns suffice."""
    results = report.results
    console.print(header(report))
    if results:
        for table in _TABLES.get(report.run.mode, _variants)(console, results):
            print_whole(console, table)
        for table in [*kind_tables(results), *fleet_tables(results)]:
            print_whole(console, table)
    console.print(Text(conclude(report), style="bold"))
    for line in (*cost_lines(results), *scaling_lines(results)):
        console.print(Text(line))
    print_reasons(console, report)
    if report.studies:
        console.print()
        print_studies(console, report.studies)
    print_caveats(console, report)


def print_reasons(console: Console, report: Sections) -> None:
    """The reasons that explain most, a paragraph each, with the system's name where several are compared."""
    several = len({reason.system for reason in report.why} - {None}) > 1
    for reason in most_important(report.why):
        alike = [each.system for each in report.why if each.sentence == reason.sentence and each.system is not None]
        whose = f"{', '.join(map(system_label, alike))}: " if several and alike else ""
        console.print(Padding(Text(f"- {whose}{reason.sentence}"), (0, 0, 0, 2)))


def _systems(console: Console, results: Sequence[SystemSummary]) -> Iterator[Table]:
    yield _side_by_side(results)
    for result in results:
        if result.ttft_ms.mean is not None:
            yield waterfall(console, result)


def _variants(console: Console, results: Sequence[SystemSummary]) -> Iterator[Table]:
    yield variants_table(results)
    yield sources_table(results)
    if results[0].cache.tiers:
        yield tiers_table(results[0])
    if results[0].ttft_ms.mean is not None:
        yield waterfall(console, results[0])


def _prediction(console: Console, results: Sequence[SystemSummary]) -> Iterator[Table]:
    for result in results:
        yield from prediction_tables(result)
        if result.ttft_ms.mean is not None:
            yield waterfall(console, result)


_TABLES: Mapping[str, Callable[[Console, Sequence[SystemSummary]], Iterator[Table]]] = {
    "pd": _systems,
    "predict": _prediction,
}


def print_studies(console: Console, found: Mapping[str, StudyAnswer]) -> None:
    """A table and a sentence of every study that was made."""
    known = studies()
    if found:
        console.print(Text(preamble(found)))
        console.print()
    for key, study in found.items():
        print_whole(console, known[key].table(study))
        console.print(Text(known[key].sentence(study), style="bold"))
        console.print()


def header(report: Sections) -> Table:
    """What was simulated."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, text in facts(report):
        grid.add_row(name, Text(text))
    return grid


def _stored(name: str, weight_dtype: str) -> str:
    """With the type of experts that have their own; a report may be of a model whose file is gone."""
    try:
        return find_model(name).stored_as(weight_dtype)
    except ConfigError:
        return weight_dtype


def _kv_type(dtype: str) -> str:
    return "" if dtype in ("bf16", "fp16") else f", KV {dtype}"


def facts(report: Sections) -> Iterator[tuple[str, str]]:
    """What was simulated, a name and a line each."""
    run, config = report.run, report.config
    preset = f", preset {run.preset}" if run.preset else ""
    yield "kvsim", f"{run.version}, mode {run.mode}{preset}, seed {run.seed}"
    if report.launch is not None:
        yield "server", report.launch.line
    yield "cluster", _cluster(report.cluster)
    model = config.model
    stored = _stored(model.name, model.weight_dtype)
    has_roles = isinstance(report.cluster, PdCluster) and report.cluster.prefill_instances > 0
    has_pools = run.mode != "single"
    instances = derived.instances_in_words(config, has_roles=has_roles, has_pools=has_pools)
    yield "model", f"{model.name} {stored}{_kv_type(model.kv_dtype)}, {instances}"
    if config.engine.enable_lora:
        engine, used = config.engine, config.load.lora_adapters or config.engine.max_loras
        slots = f"{engine.max_loras} of rank {engine.max_lora_rank}"
        yield "adapters", f"{slots}, {used} in use; their part of a step is modelled"
    yield "KV cache", _kv_caches(report, has_roles)
    yield "step time", report.calibration.readiness
    yield "workload", _workload(report.workload)
    if report.workload.load is not None:
        yield "load", _load(report.workload.load, _inside(report.workload))
    elif any(result.steady.possible_requests_per_s for result in report.results):
        yield "load", _own_load(report)
    for result in report.results[:1]:
        slo = result.goodput.slo
        yield "SLO", f"TTFT <= {slo.ttft_ms:,g} ms and mean TPOT <= {slo.tpot_ms:,g} ms"


def _cluster(cluster: PdCluster | TieredCluster | DeployedCluster) -> str:
    size = f"{counted(cluster.gpus, 'GPU')}, {counted(cluster.instances, 'instance')}, "
    size += counted(cluster.racks, "rack")
    if isinstance(cluster, DeployedCluster):
        return f"{counted(cluster.gpus, 'GPU')}, {counted(cluster.instances, 'instance')}"
    if isinstance(cluster, TieredCluster) or not cluster.prefill_instances:
        return size
    actual, balanced = (cluster.prefill_instances, cluster.decode_instances), cluster.balanced_pd_ratio
    degrees = cluster.prefill_gpus_per_instance, cluster.decode_gpus_per_instance
    if degrees[0] != degrees[1]:
        size += f"; of {degrees[0]} GPUs for prefill, of {degrees[1]} for decode"
    advice = "" if not balanced else ", balanced" if balanced == actual else f", balanced {ratio(balanced)}"
    return f"{size}; PD {ratio(actual)} prefill:decode{advice}"


def _kv_cache(tokens: int, max_model_len: int) -> str:
    """In vLLM's words."""
    concurrency = f"{tokens / max_model_len:.2f}x"
    return f"{tokens:,} tokens an instance, maximum concurrency for {max_model_len:,} tokens per request: {concurrency}"


def _kv_caches(report: Sections, has_roles: bool) -> str:
    """KV tokens of a unified instance; where prefill and decode instances have other GPUs, of these, too."""
    cluster, config = report.cluster, report.config
    if not (has_roles and isinstance(cluster, PdCluster) and roles_differ(config)):
        if config.cluster.pools and report.run.mode != "single":
            return f"{cluster.kv_cache_tokens_per_instance:,} tokens of each of the first kind's instances"
        return _kv_cache(cluster.kv_cache_tokens_per_instance, config.model.max_model_len)
    size = derived.block_size(config)
    blocks = {"prefill": cluster.kv_blocks_per_prefill_instance, "decode": cluster.kv_blocks_per_decode_instance}
    each = ", ".join(f"{count * size:,} of a {role} instance" for role, count in blocks.items())
    own = "the first kind's unified instances" if config.cluster.pools else "a unified instance"
    return f"{cluster.kv_cache_tokens_per_instance:,} tokens of {own}, {each}"


def _workload(workload: WorkloadFacts) -> str:
    requests, span_s = workload.requests, workload.span_s
    pace = f"over {number(span_s)} s" if workload.users is None else f"of {counted(workload.users, 'user')}"
    text = f"{workload.source} ({workload.format}): {requests:,} requests {pace}"
    if not requests:
        return text
    prompt, output = number(workload.prompt_tokens / requests), number(workload.output_tokens / requests)
    return f"{text}, on average {prompt} prompt and {output} output tokens"


def _load(load: Load, inside: str) -> str:
    of = f"{load.rho:g} of {system_label(load.of)}'s maximum"
    return f"{of}: {number(load.requests_per_s)} requests/s of {number(load.max_requests_per_s)}{inside}"


def _inside(workload: WorkloadFacts) -> str:
    """What came in the measured window, where that is another rate."""
    came = workload.window_requests_per_s
    return "" if came is None else f", {number(came)} in the measured window"


def _own_load(report: Sections) -> str:
    """The rate that was asked for, that of the requests that came and fit, and what the systems can serve; of many
    the two extremes."""
    known = sorted(
        (result for result in report.results if result.steady.possible_requests_per_s),
        key=lambda result: result.steady.possible_requests_per_s or 0.0,
    )
    possible = [f"{number(result.steady.possible_requests_per_s)} ({system_label(result.name)})" for result in known]
    words = possible[0] if len(known) == 1 else f"{possible[0]} to {possible[-1]}"
    came, asked = number(known[0].steady.asked_requests_per_s), report.workload.asked_requests_per_s
    inside = _inside(report.workload)
    if asked is None:
        return f"{came} requests/s came{inside}, possible {words}"
    fitting = " and fit" if any(result.misfits for result in report.results) else ""
    return f"{rate(asked)} requests/s asked, {came} came{fitting}{inside}, possible {words}"


def _side_by_side(results: Sequence[SystemSummary]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for result in results:
        table.add_column(system_label(result.name), justify="right", no_wrap=True)
    if len(results) == 2:
        table.add_column("better", no_wrap=True, style="green")
    for group in groups(results):
        for row in group:
            table.add_row(*row.cells(results), end_section=row is group[-1])
    return table


def waterfall(console: Console, result: SystemSummary) -> Table:
    """The parts of TTFT, each bar starting where the one before ends; parts that never occur are left out."""
    parts = {"mean": result.attribution_ms.mean, "p99": result.attribution_ms.p99}
    width = _WIDE_BAR if console.width > 100 else _NARROW_BAR
    bars = {which: _bars(parts[which], width, "#" if console.options.ascii_only else "\u2588") for which in parts}
    title = f"Where TTFT goes: {system_label(result.name)} (p99: mean over requests between p98.5 and p99.5)"
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for which in parts:
        table.add_column(f"{which} ms", justify="right", no_wrap=True)
        table.add_column("share", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, style="cyan", min_width=width)
    totals = {which: sum(value or 0.0 for value in parts[which].values()) for which in parts}
    for name, label in COMPONENT_LABELS.items():
        if any(parts[which][name] for which in parts):
            cells = [_part(parts[which][name], totals[which], bars[which][name]) for which in parts]
            table.add_row(label, *[text for cell in cells for text in cell])
    table.add_section()
    table.add_row("TTFT", *[text for which in parts for text in (number(totals[which]), "100%", "")])
    return table


def _part(value_ms: float | None, total_ms: float, bar: str) -> tuple[str, str, str]:
    return number(value_ms), percent((value_ms or 0.0) / total_ms if total_ms else None), bar


def _bars(parts_ms: Parts, width: int, ink: str) -> dict[str, str]:
    """A bar for each part, ``width`` characters together; a part too small for a character has none."""
    total_ms = sum(value or 0.0 for value in parts_ms.values())
    bars, before_ms = {}, 0.0
    for name in COMPONENT_LABELS:
        after_ms = before_ms + (parts_ms[name] or 0.0)
        start, end = (round(width * edge_ms / total_ms) if total_ms else 0 for edge_ms in (before_ms, after_ms))
        bars[name] = " " * start + ink * (end - start)
        before_ms = after_ms
    return bars


def print_caveats(console: Console, report: Sections) -> None:
    """Laws that were broken, warnings, notes."""
    for law in caveats.violations(report):
        console.print(Text(f"CONSERVATION VIOLATED, the figures above are wrong. {law}", style="bold white on red"))
    for warning in caveats.warnings(report):
        console.print(Text(f"warning: {warning}", style="yellow"))
    for note in caveats.notes(report):
        console.print(Text(f"note: {note}", style="dim"))
