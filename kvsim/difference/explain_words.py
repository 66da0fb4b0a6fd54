"""How an explanation is told: waterfalls, the tail, what each cause is worth, and what they do to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvsim.difference.diff_words import change, print_notes, requests_words
from kvsim.difference.explain import TTFT, ExplainAnswer, Interplay, Removal
from kvsim.difference.figures import FigureDifference
from kvsim.difference.tail import Band, Tail, Trait
from kvsim.record.labels import COMPONENT_LABELS, NOTHING, counted, listed, number, percent, system_label
from kvsim.report.whole import print_whole
from kvsim.study.words import signed, table_of

_SHORT = {
    "retry": "retry",
    "proxy": "proxy",
    "queue": "queue",
    "interference": "interfer.",
    "preemption": "preempt.",
    "tier_load": "tier load",
    "prefill": "prefill",
    "transfer": "transfer",
    "decode_wait": "decode wait",
    "first_decode": "first decode",
}
_AT = ("mean", "p50", "p90", "p99")
_NOTHING_MS = 1e-6


def print_explanation(console: Console, answer: ExplainAnswer) -> None:
    """Print ``answer`` for a person; 80 columns suffice."""
    console.print(_header(answer))
    print_whole(console, _waterfall(answer))
    if answer.tail is not None:
        for table in _tail_tables(answer.tail):
            print_whole(console, table)
        console.print(Text(tail_sentence(answer.tail)))
        console.print()
    print_whole(console, _removals(answer))
    for line in _definitions(answer):
        console.print(Padding(Text(f"- {line}"), (0, 0, 0, 2)))
    console.print()
    print_whole(console, _effects(answer))
    for sentence in conclusions(answer):
        console.print(Text(sentence, style="bold"))
    print_notes(console, answer.notes, [each.sentence() for each in answer.failures])


def conclusions(answer: ExplainAnswer) -> list[str]:
    """What p99 is made of, what removing gives, and how much of that causes share."""
    band = next(each for each in answer.waterfall if each.at == "p99")
    largest = sorted(band.parts_ms, key=lambda name: -band.parts_ms[name])[:2]
    shares = [
        f"{percent(band.parts_ms[name] / band.ttft_ms)} {COMPONENT_LABELS[name]}"
        for name in largest
        if band.ttft_ms and band.parts_ms[name]
    ]
    who = system_label(answer.system)
    said = [f"{who}: TTFT at p99, {number(band.ttft_ms)} ms in run 1, is {listed(shares) if shares else 'nothing'}"]
    known = [(removal, removal.ttft[-1]) for removal in answer.removals if removal.ttft]
    if known:
        best, found = min(known, key=lambda each: each[1].difference or 0.0)
        if found.moved or answer.runs < 2:
            said.append(
                f"of single removals {best.label} changes p99 most in the mean of the runs, by {change(found)} ms"
            )
        else:
            said.append("no removal of a single cause surely changes p99")
    overlap = answer.interplay[-1]
    if known:
        said.append(overlap_words(overlap, answer.runs))
    return [f"{'; '.join(said)}."]


def overlap_words(each: Interplay, runs: int) -> str:
    """What all causes change together beside what each does alone, at one figure of TTFT in ms."""
    sums = f"all together change it by {signed(each.together)} ms, each alone by {signed(each.alone_sum)} ms in sum"
    if runs < 2 or each.half_width is None:
        return f"{sums} (one run)"
    if max(abs(each.difference), each.half_width) < _NOTHING_MS:
        return f"{sums}: each takes its own"
    width = f"{signed(each.difference)} ± {number(each.half_width)} ms"
    if abs(each.difference) <= each.half_width:
        return f"{sums}: what they do to each other is not told apart from nothing ({width})"
    words = "some of it goes with any one of them" if each.difference > 0 else "some of it goes with none of them alone"
    return f"{sums}: {words} ({width})"


def _header(answer: ExplainAnswer) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    rows = (
        ("kvsim", f"{answer.version}, explain, mode {answer.mode}, seed {answer.seed}"),
        ("case", f"{answer.case}: {system_label(answer.system)}"),
        ("requests", requests_words(answer.requests, answer.source, answer.requests_per_s)),
        ("runs", f"{counted(answer.runs, 'run')} of each; those of one number serve the same requests"),
    )
    for name, text in rows:
        grid.add_row(name, Text(text))
    return grid


def _waterfall(answer: ExplainAnswer) -> Table:
    bands = answer.waterfall
    title = "Where TTFT goes in run 1 (pN: mean over requests within half a percentile)"
    columns = [""] + [text for band in bands for text in (f"{band.at} ms", "")]
    table = table_of(title, columns)
    for name, label in COMPONENT_LABELS.items():
        if any(band.parts_ms[name] for band in bands):
            table.add_row(label, *(text for band in bands for text in _part(band, name)))
    table.add_section()
    table.add_row("TTFT", *(text for band in bands for text in (number(band.ttft_ms), "100%")))
    table.add_row("requests", *(text for band in bands for text in (f"{band.requests:,}", "")))
    return table


def _part(band: Band, name: str) -> tuple[str, str]:
    share = band.parts_ms[name] / band.ttft_ms if band.ttft_ms else None
    return number(band.parts_ms[name]), percent(share)


def _tail_tables(tail: Tail) -> Iterator[Table]:
    title = (
        f"The {tail.requests:,} of {tail.of_requests:,} requests with the longest TTFT, from {number(tail.from_ms)} ms"
    )
    table = table_of(f"{title} on", ("request", "at (s)", "prompt", "computed", "TTFT ms", "most of it", "instance"))
    for each in tail.rows:
        table.add_row(
            f"{each.request_id:,}",
            number(each.arrival_s),
            f"{each.prompt_tokens:,}",
            f"{each.computed_tokens:,}",
            number(each.ttft_ms),
            f"{COMPONENT_LABELS[each.part]} {number(each.part_ms)}",
            f"{each.instance}",
        )
    yield table
    before = (
        f"'before': in the {number(tail.window_s)} s before it; 'more often': than one of the others, 50%: no trait"
    )
    traits = table_of(f"What they have in common ({before})", ("", "theirs", "others", "more often", ""))
    for trait in tail.traits:
        common = "common" if trait.is_common else ""
        traits.add_row(trait.name, *_levels(trait), percent(trait.chance), common)
    share, of_all = percent(tail.instance_share), percent(tail.instance_share_of_all)
    common = "common" if tail.instance_is_common else ""
    traits.add_row(f"computed on instance {tail.instance}", share, f"{of_all} of all", "", common)
    yield traits


def _levels(trait: Trait) -> tuple[str, str]:
    shown = percent if trait.name.startswith("share") else number
    return shown(trait.tail), shown(trait.others)


def tail_sentence(tail: Tail) -> str:
    """What the tail surely has in common."""
    found = [f"{'more' if trait.chance > 0.5 else 'less'} {trait.name}" for trait in tail.traits if trait.is_common]
    if tail.instance_is_common:
        found.append(f"instance {tail.instance}")
    if not found:
        return "Nothing that is looked at is surely common to them."
    return f"Common to them, against the others: {listed(found)}."


def _removals(answer: ExplainAnswer) -> Table:
    width = "" if answer.runs < 2 else f"; all intervals together hold with {percent(answer.confidence)}"
    title = f"TTFT (ms) without a cause: change, mean of {counted(answer.runs, 'run')}{width}"
    table = table_of(title, ("", *_AT))
    table.add_row("as it is", *(number(answer.ttft[name]) for name in TTFT))
    for removal in answer.removals:
        cells = [_change(each) for each in removal.ttft] if removal.ttft else [NOTHING] * len(TTFT)
        table.add_row(removal.label, *cells)
    table.add_section()
    table.add_row("sum of each", *(signed(each.alone_sum) for each in answer.interplay))
    table.add_row("all together", *(_change(each) for each in answer.together.ttft))
    table.add_row("overlap", *(_shared(each) for each in answer.interplay))
    if answer.runs > 1:
        table.caption = "?: not told apart from no change"
        table.caption_justify = "left"
    return table


def _change(each: FigureDifference) -> str:
    return f"{change(each)}?" if each.verdict == "open" and each.half_width is not None else change(each)


def _shared(each: Interplay) -> str:
    if each.half_width is None:
        return signed(each.difference)
    unsure = "?" if abs(each.difference) <= each.half_width and each.half_width else ""
    return f"{signed(each.difference)} ± {number(each.half_width)}{unsure}"


def _definitions(answer: ExplainAnswer) -> Iterator[str]:
    for removal in answer.removals:
        if removal.impossible is not None:
            yield f"{removal.label}: not simulated, {removal.impossible}"
            continue
        size = f" ({counted(removal.instances or 0, 'instance')} in run 1)" if removal.name == "queue" else ""
        leaves = f"{removal.leaves[:1].upper()}{removal.leaves[1:]}"
        yield f"{removal.label}: {removal.what}{size}. {leaves}.{_left(removal)}"


def _left(removal: Removal) -> str:
    """How much of a cause is still there."""
    if removal.name == "hits":
        return f" {_hits(removal, 'b')} of prompt tokens were hit."
    if not removal.left_ms or removal.left_ms < _NOTHING_MS:
        return ""
    return f" {number(removal.left_ms)} ms of it in mean TTFT are left."


def _effects(answer: ExplainAnswer) -> Table:
    shown = [removal for removal in (*answer.removals, answer.together) if removal.parts]
    names = [name for name in COMPONENT_LABELS if _occurs(shown, name)]
    title = "What each removal does to the parts of mean TTFT (ms), and to the hit rate"
    table = table_of(title, ("", *(_SHORT[name] for name in names), "hits"))
    if shown:
        before = {each.figure: each.a for each in shown[0].parts}
        table.add_row("as it is", *(number(before[name]) for name in names), _hits(shown[0], "a"))
    for removal in shown:
        apart = {each.figure: each.difference for each in removal.parts}
        table.add_row(removal.label, *(signed(apart[name] or 0.0) for name in names), _hits(removal, "b"))
    return table


def _occurs(removals: Sequence[Removal], name: str) -> bool:
    return any(each.figure == name and (each.a or each.b) for removal in removals for each in removal.parts)


def _hits(removal: Removal, side: str) -> str:
    found = removal.hit_rate
    return NOTHING if found is None else percent(found.a if side == "a" else found.b)
