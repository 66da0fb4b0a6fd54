"""How a difference is told: tables at 80 columns, and sentences that say no more than is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvsim.difference.diff import TTFT, DiffAnswer, SystemDifference
from kvsim.difference.figures import SHARES, FigureDifference
from kvsim.difference.requests import FACTS, DifferingRequest
from kvsim.record.labels import COMPONENT_LABELS, NOTHING, counted, listed, number, percent, system_label
from kvsim.record.result import COMPONENTS
from kvsim.report.whole import print_whole
from kvsim.study.words import signed, table_of

_VALUE = 28
"""Characters of a setting's value."""
_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}
_TOLD = ("prefill_instance", "hit_tokens", "queue_s", "prefill_s", "interference_s", "decode_instance", "first_token_s")
"""Facts that are named where they are alike."""
_OTHERS = {
    "requests_per_s": "throughput (requests/s)",
    "output_tokens_per_s": "output (tokens/s)",
    "goodput_requests_per_s": "goodput (requests/s)",
    "good_share": "within SLO",
    "prefix_hit_rate": "prefix hit rate",
}


def print_diff(console: Console, answer: DiffAnswer) -> None:
    """Print ``answer`` for a person; 80 columns suffice."""
    console.print(_header(answer))
    if answer.keys:
        print_whole(console, _keys(answer))
    for system in answer.systems:
        if not system.identical:
            for table in _tables(answer, system):
                print_whole(console, table)
            for sentence in _firsts(system):
                console.print(Padding(Text(f"- {sentence}"), (0, 0, 0, 2)))
    for sentence in conclusions(answer):
        console.print(Text(sentence, style="bold"))
    print_notes(console, answer.notes, [each.sentence() for each in answer.failures])


def print_notes(console: Console, notes: Sequence[str], warnings: Sequence[str]) -> None:
    """What concerns an answer as a whole."""
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    for note in notes:
        console.print(Text(f"note: {note}", style="dim"))


def conclusions(answer: DiffAnswer) -> list[str]:
    """A sentence a system, which carries its own reservations."""
    return [_conclusion(answer, system) for system in answer.systems]


def _header(answer: DiffAnswer) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, text in _facts(answer):
        grid.add_row(name, Text(text))
    return grid


def _facts(answer: DiffAnswer) -> Iterator[tuple[str, str]]:
    yield "kvsim", f"{answer.version}, diff, mode {answer.mode}, seed {answer.seed}"
    yield "A", answer.a
    yield "B", answer.b
    yield "requests", requests_words(answer.requests, answer.source, answer.requests_per_s)
    pairs = counted(answer.runs, "pair")
    yield "runs", f"{pairs} of runs; both of a pair serve the same requests, with the same random numbers"
    if not answer.keys:
        yield "settings", "none differs"


def requests_words(count: int, source: str, rate_per_s: float) -> str:
    """How many of what, at which rate."""
    pace = number(rate_per_s)
    return f"{count:,} a run, {source}" + (f", {pace} a second" if pace != NOTHING else "")


def _keys(answer: DiffAnswer) -> Table:
    table = table_of("Settings that differ", ("", "A", "B"))
    for each in answer.keys:
        name = each.key if each.serves else f"{each.key} *"
        table.add_row(Text(name), Text(_value(each.a)), Text(_value(each.b)))
    if not all(each.serves for each in answer.keys):
        table.caption = "* says what is served or what is good: both sides have it as A does"
        table.caption_justify = "left"
    return table


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 3]}..."


def _tables(answer: DiffAnswer, system: SystemDifference) -> Iterator[Table]:
    yield _figures(answer, system)
    yield _parts(answer, system)
    if system.requests.moved:
        yield _moved(system)


def _figures(answer: DiffAnswer, system: SystemDifference) -> Table:
    title = f"{_title(system)}, means of {counted(answer.runs, 'run')}; {_intervals(answer)}"
    table = table_of(title, ("", "A", "B", "B less A", ""))
    for each in system.figures:
        table.add_row(label(each.figure), *_cells(each))
    return table


def _intervals(answer: DiffAnswer) -> str:
    if answer.runs < 2:
        return "one pair of runs has no intervals"
    return f"all intervals\ntogether hold with {percent(answer.confidence)}"


def _parts(answer: DiffAnswer, system: SystemDifference) -> Table:
    table = table_of(f"Parts of mean TTFT (ms), {_title(system)}", ("", "A", "B", "B less A", ""))
    for each in system.parts:
        if each.a or each.b:
            table.add_row(COMPONENT_LABELS[each.figure], *_cells(each))
    whole = system.figure(TTFT)
    if whole is not None:
        table.add_section()
        table.add_row("TTFT", *_cells(whole))
    return table


def label(figure: str) -> str:
    """A figure's name with its unit."""
    if figure in _OTHERS:
        return _OTHERS[figure]
    latency, quantile, _ = figure.split("_")
    return f"{_NAMES[latency]} {quantile} (ms)"


def _cells(each: FigureDifference) -> tuple[str, str, str, str]:
    is_share = each.figure in SHARES
    levels = (percent if is_share else number)(each.a), (percent if is_share else number)(each.b)
    return *levels, change(each), each.verdict


def change(each: FigureDifference) -> str:
    """A difference and the half width of its interval; of shares in points."""
    if each.difference is None:
        return NOTHING
    factor = 100.0 if each.figure in SHARES else 1.0
    unit = " points" if each.figure in SHARES and each.difference else ""
    width = "" if not each.half_width else f" ± {number(factor * each.half_width)}"
    return f"{signed(factor * each.difference)}{width}{unit}"


def _moved(system: SystemDifference) -> Table:
    requests = system.requests
    title = f"Requests whose TTFT (ms) moved most, {_title(system)}, run 1"
    table = table_of(title, ("request", "at (s)", "prompt", "A", "B", "change", "of that", "instance"), names=False)
    for each in requests.moved:
        same = each.instance_a == each.instance_b
        table.add_row(
            f"{each.request_id:,}",
            number(each.arrival_s),
            f"{each.prompt_tokens:,}",
            number(each.ttft_a_ms),
            number(each.ttft_b_ms),
            signed(each.change_ms),
            f"{COMPONENT_LABELS[each.part]} {signed(each.part_change_ms)}",
            f"{each.instance_a}" if same else f"{each.instance_a} > {each.instance_b}",
        )
    return table


def _firsts(system: SystemDifference) -> Iterator[str]:
    requests, whose = system.requests, "" if system.a != system.b else f"{system_label(system.a)}: "
    if requests.first is None or requests.earliest is None:
        return
    count = f"{requests.differing:,} of {counted(requests.requests, 'request')} of run 1"
    yield f"{whose}{count} {'differ' if requests.differing != 1 else 'differs'}."
    yield f"{whose}The first of them to arrive is {_differing(requests.first)}."
    if requests.earliest != requests.first:
        yield f"{whose}The first difference to be seen is that of {_differing(requests.earliest)}."


def _differing(each: DifferingRequest) -> str:
    who = f"request {each.request_id:,} ({number(each.arrival_s)} s, {each.prompt_tokens:,} prompt tokens)"
    if each.fact == "completed":
        return f"{who}, which is complete in {'A' if each.b is None else 'B'} alone"
    values = f"{_fact(each.fact, each.a)} in A, {_fact(each.fact, each.b)} in B"
    told = [FACTS[name] for name in each.alike if name in _TOLD]
    same = f"; alike before it: {listed(told)}" if told else ""
    return f"{who}: {FACTS[each.fact]} is {values}, known at {number(each.seen_s)} s{same}"


def _fact(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    if name in COMPONENTS:
        return f"{number(value * 1e3)} ms"
    if name.endswith("_s"):
        return f"{value:.6f} s"
    return f"instance {value:.0f}" if name.endswith("_instance") else f"{value:,.0f}"


def _title(system: SystemDifference) -> str:
    if system.a == system.b:
        return system_label(system.a)
    return f"{system_label(system.a)} (A) and {system_label(system.b)} (B)"


def _conclusion(answer: DiffAnswer, system: SystemDifference) -> str:
    name = _title(system)
    if system.identical:
        runs = counted(answer.runs, "run")
        return f"{name}: identical, all requests have the same record in A and B, {answer.requests:,} a run, in {runs}."
    ttft = system.figure(TTFT)
    said = [] if ttft is None else [f"mean TTFT in B {_moved_words(ttft)}"]
    parts = [each for each in system.parts if each.moved]
    if parts:
        told = [f"{COMPONENT_LABELS[each.figure]} {change(each)} ms" for each in _largest_first(parts)]
        said.append(f"of its parts {listed(told)} moved for sure")
    elif answer.runs > 1:
        said.append("of its parts none moved for sure")
    others = [each for each in system.figures if each.moved and each.figure != TTFT]
    if others:
        said.append(f"higher or lower are also {listed([_short(each) for each in others])}")
    if system.requests.only_a or system.requests.only_b:
        said.append(f"{system.requests.only_a:,} requests of run 1 are complete in A alone, "
                    f"{system.requests.only_b:,} in B alone")  # fmt: skip
    if answer.runs < 2:
        said.append("from one pair of runs nothing can be said of others")
    return f"{name}: {'; '.join(said)}."


def _largest_first(parts: Sequence[FigureDifference]) -> list[FigureDifference]:
    return sorted(parts, key=lambda each: -abs(each.difference or 0.0))


def _short(each: FigureDifference) -> str:
    return f"{label(each.figure).replace(' (ms)', '')} ({each.verdict})"


def _moved_words(each: FigureDifference) -> str:
    """What became of a figure in milliseconds, with its verdict."""
    if each.verdict == "same":
        return "is the same"
    if each.verdict == "tie":
        return f"is a tie, {change(each)} ms of {number(each.a)} ms"
    by = f"{change(each)} ms, {signed(100 * (each.share or 0.0))}% of {number(each.a)} ms"
    return f"is not told apart ({by})" if each.verdict == "open" else f"is {each.verdict} ({by})"
