"""Predict the leaderboard's runs and rewrite the tables of ``docs/leaderboard.md``.

    python benchmarks/leaderboard.py [--print]

The runs are those of ``../shared/data/leaderboard`` beside the checkout, or ``$KVSIM_DATA/leaderboard``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from places import DATA, ROOT

from kvsim.spec import find_model
from kvsim.validate.front_end import FRONT_END_S
from kvsim.validate.leaderboard.recorded import METRICS, read_leaderboard
from kvsim.validate.leaderboard.score import Scored, Spread, beside, score, spreads, stages

PAGE = ROOT / "docs" / "leaderboard.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"
NAMES = dict(zip(METRICS, ("TTFT", "TTFT p90", "E2E", "E2E p90", "ITL"), strict=True))


def main() -> int:
    folder = DATA / "leaderboard"
    if not folder.is_dir():
        sys.stderr.write("no leaderboard: set KVSIM_DATA\n")
        return 1
    scored = [score(run) for run in read_leaderboard(folder)]
    text = "\n".join([*_beside(scored), *_runs(scored), *_families(scored)]) + "\n"
    if "--print" in sys.argv[1:]:
        sys.stdout.write(text)
        return 0
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.split(BEGIN)[0] + BEGIN + text + END + page.split(END)[1], encoding="utf-8")
    return 0


def _beside(scored: list[Scored]) -> Iterator[str]:
    yield "### Beside other simulators\n"
    yield "Absolute errors in percent, median / mean, over windows that both predicted; stages that queued throughout"
    yield "are left out but in the second row.\n"
    yield f"| | {' | '.join(NAMES.values())} | windows |"
    yield "|---" * (len(NAMES) + 2) + "|"
    for words, saturated in (("kvsim, all stages", False), ("kvsim, stages that queued throughout", True)):
        found = spreads(one.errors(window) for one, window in stages(scored, saturated=saturated))
        yield _row(words, found)
    for peer, what, ours, theirs in beside(scored):
        yield _row(f"kvsim, {what} of {peer}", ours)
        yield _row(peer, theirs)
    cpu_s = sum(one.forecast.cpu_s for one in scored if one.forecast is not None)
    yield f"\nkvsim predicted the {len(scored)} runs in {cpu_s:.1f} s of CPU."


def _row(name: str, found: dict[str, Spread]) -> str:
    cells = (f"{found[key].median_pct:.1f} / {found[key].mean_pct:.1f}" if key in found else "" for key in NAMES)
    return f"| {name} | {' | '.join(cells)} | {max((one.windows for one in found.values()), default=0)} |"


def _runs(scored: list[Scored]) -> Iterator[str]:
    yield "\n### Run by run\n"
    yield "Signed errors of kvsim's predictions in percent.\n"
    yield f"| run | stage | {' | '.join(NAMES.values())} |"
    yield "|---" * (len(NAMES) + 2) + "|"
    for one in scored:
        for window in one.run.windows[:-1]:
            errors = one.errors(window)
            cells = (f"{errors[key]:+.1f}" if key in errors else "" for key in NAMES)
            queued = ", queued" if one.run.saturated(window) else ""
            yield f"| {one.run.name} | {window[-1]}{queued} | {' | '.join(cells)} |"


def _families(scored: list[Scored]) -> Iterator[str]:
    """The front end's time from all families but one, and TTFT's error on that one."""
    yield "\n### The front end's time without a family\n"
    yield "The median of what is left between the engine's TTFT and the client's over the dense models of the other"
    yield "families, and what TTFT is off by on this one with it, and with the time that kvsim takes.\n"
    yield "| family | stages | front end without it (ms) | mean error of TTFT with that (%) | as shipped (%) |"
    yield "|---|---|---|---|---|"
    rows = [(_family(one), *_ttft_ms(one, window)) for one, window in stages(scored, saturated=False)]
    for family in sorted({name for name, *_ in rows}):
        others = [measured - engine for name, engine, measured, dense in rows if name != family and dense]
        without_ms = float(np.median(others))
        own = [(engine, measured) for name, engine, measured, _ in rows if name == family]
        errors = [
            np.mean([abs((engine + ms) / true - 1) for engine, true in own]) for ms in (without_ms, FRONT_END_S * 1e3)
        ]
        yield f"| {family} | {len(own)} | {without_ms:.1f} | {errors[0] * 100:.1f} | {errors[1] * 100:.1f} |"


def _ttft_ms(one: Scored, window: str) -> tuple[float, float, bool]:
    """The engine's, the client's, and whether the model is dense."""
    assert one.forecast is not None
    engine_ms = one.forecast.windows[window]["ttft_mean"] - FRONT_END_S * 1e3
    return engine_ms, one.run.measured[window]["ttft_mean"], not find_model(str(one.run.engine.get("model"))).is_moe


def _family(one: Scored) -> str:
    return find_model(str(one.run.engine.get("model"))).name.split("-")[0]


if __name__ == "__main__":
    raise SystemExit(main())
