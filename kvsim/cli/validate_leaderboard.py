"""``validate leaderboard``: recorded runs that several simulators predicted, and how near each came."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import JsonOut
from kvsim.cli.validate_text import check_json, wrapped, write_json
from kvsim.errors import KvsimError

if TYPE_CHECKING:
    from kvsim.validate.leaderboard.recorded import RecordedRun
    from kvsim.validate.leaderboard.score import Scored, Spread

HEADINGS = {"ttft_mean": "TTFT", "ttft_p90": "p90", "e2e_mean": "E2E", "e2e_p90": "p90", "itl_mean": "ITL"}
NAME, WIDTH, CELL = 25, 11, 10


def validate_leaderboard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of folders, one a run.")],
    json_out: JsonOut = None,
) -> int:
    """Predict the runs of a leaderboard, beside what other simulators said of them (docs/leaderboard.md)."""
    check_json(json_out, {})
    from kvsim.validate.leaderboard.recorded import read_leaderboard
    from kvsim.validate.leaderboard.score import dump, score

    scored = []
    for run in read_leaderboard(folder):
        scored.append(score(run))
        sys.stdout.write("".join(_block(scored[-1])))
        sys.stdout.flush()
    if all(one.forecast is None for one in scored):
        raise KvsimError(f"{folder}: none of {len(scored)} runs can be predicted; the first: {scored[0].refusal}")
    sys.stdout.write("".join(_summary(scored)))
    write_json(json_out, dump(scored))
    return 0


def _block(one: Scored) -> Iterator[str]:
    """A run: its windows, and under each what its peers said."""
    if one.forecast is None:
        yield wrapped(f"{one.run.name}: not predicted: {one.refusal}")
        return
    yield wrapped(f"{one.run.name}: {_engine(one.run)}")
    yield wrapped(f"  step times: {one.forecast.calibration}")
    for window in [name for name in (*one.run.windows, "first_300") if name in one.run.measured]:
        queued = ", queued throughout" if one.run.saturated(window) else ""
        yield f"  {window}{queued}\n"
        yield _row("    kvsim", one.errors(window))
        for peer in one.run.peers:
            errors = one.errors_of(peer, window)
            if errors:
                yield _row(f"    {peer}", errors)


def _engine(run: RecordedRun) -> str:
    engine = run.engine
    return f"{engine.get('engine')}, {engine.get('gpu')}, TP {engine.get('tensor_parallel_size')}"


def _row(name: str, errors: Mapping[str, float]) -> str:
    cells = (f"{HEADINGS[key]} {_off(errors[key])}" if key in errors else "" for key in HEADINGS)
    first, *others = (f"{cell:>{WIDTH - 1}}" for cell in cells)
    return f"{' '.join([f'{name:<{NAME - 1}}', f'{first:>{WIDTH}}', *others]).rstrip()}\n"


def _off(error_pct: float) -> str:
    """Errors of 100% and more as times: ``x21`` is 21 times what was measured."""
    if error_pct < 100:
        return f"{error_pct:+.1f}%"
    times = 1 + error_pct / 100
    return f"x{times:.1f}" if times < 10 else f"x{times:,.0f}"


def _summary(scored: list[Scored]) -> Iterator[str]:
    from kvsim.validate.leaderboard.score import beside, spreads, stages

    yield "\nabsolute errors, median / mean, percent\n"
    yield f"{'':<{NAME}}{''.join(f'{heading:>{CELL}}' for heading in HEADINGS.values())}{'n':>4}\n"
    for words, saturated in (("stages", False), ("queued throughout", True)):
        found = spreads(one.errors(window) for one, window in stages(scored, saturated=saturated))
        if found:
            yield _spread_row(f"kvsim: {words}", found)
    for peer, what, ours, theirs in beside(scored):
        yield f"beside {peer}: {what} that both predicted\n"
        yield _spread_row("  kvsim", ours)
        yield _spread_row(f"  {peer}", theirs)
    cpu_s = sum(one.forecast.cpu_s for one in scored if one.forecast is not None)
    predicted = [one for one in scored if one.forecast is not None]
    yield wrapped(f"{len(predicted)} of {len(scored)} runs predicted in {cpu_s:.1f} CPU-s")


def _spread_row(name: str, found: Mapping[str, Spread]) -> str:
    cells = (_cell(found[key]) if key in found else "-" for key in HEADINGS)
    windows = max(one.windows for one in found.values())
    return f"{name:<{NAME}}{''.join(f' {cell:>{CELL - 1}}' for cell in cells)} {windows:>3}\n"


def _cell(spread: Spread) -> str:
    digits = 0 if max(spread.median_pct, spread.mean_pct) >= 100 else 1
    return f"{spread.median_pct:.{digits}f}/{spread.mean_pct:.{digits}f}"
