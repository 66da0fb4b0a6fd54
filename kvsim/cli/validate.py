"""``validate``: kvsim's decisions and figures against what real engines did."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import JsonOut
from kvsim.cli.usage import FlagError, Verbs
from kvsim.cli.validate_leaderboard import validate_leaderboard
from kvsim.cli.validate_live import validate_live
from kvsim.cli.validate_load import validate_load
from kvsim.cli.validate_points import validate_points
from kvsim.cli.validate_run import validate_run
from kvsim.cli.validate_text import check_json, write_json

if TYPE_CHECKING:
    from kvsim.validate.replay import Difference

validate_app = typer.Typer(
    cls=Verbs, help="Compare with what real engines did.", rich_markup_mode=None, add_completion=False
)
SHOWN = 70
"""Characters of a value that a line on a difference shows."""


@validate_app.callback(invoke_without_command=True)
def validate(ctx: typer.Context) -> None:
    """Compare with what real engines did."""
    if ctx.invoked_subcommand is None:
        raise FlagError("validate: a command is missing; known: leaderboard, live, load, oracle, points, run")


validate_app.command("run")(validate_run)
validate_app.command("points")(validate_points)
validate_app.command("load")(validate_load)
validate_app.command("leaderboard")(validate_leaderboard)
validate_app.command("live")(validate_live)


@validate_app.command()
def oracle(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings of a scheduler: JSON or gzip.")],
    json_out: JsonOut = None,
) -> int:
    """Replay recordings of vLLM's scheduler. Exit code 0: every step is identical, 1: some are not, 2: unreadable."""
    check_json(json_out, {f"recording {place + 1}": file for place, file in enumerate(files)})
    from kvsim.validate.recording import read_recording
    from kvsim.validate.replay import replay

    recordings = [(file, read_recording(file)) for file in files]
    results = []
    for file, recording in recordings:
        found = replay(str(file), recording)
        results.append(found)
        sys.stdout.write(f"{file}: {_sentence(found.steps, found.first_difference)}\n")
    identical, steps = sum(found.identical for found in results), sum(found.steps_compared for found in results)
    sys.stdout.write(f"{identical} of {len(results)} recordings identical, {steps:,} steps compared\n")
    whole = {"identical": identical == len(results), "steps_compared": steps}
    write_json(json_out, whole | {"recordings": [asdict(found) for found in results]})
    return 0 if identical == len(results) else 1


def _sentence(steps: int, difference: Difference | None) -> str:
    if difference is None:
        return f"{steps:,} steps identical"
    recorded, found = _apart(difference.recorded, difference.found)
    return f"step {difference.step:,} of {steps:,}: {difference.field}: recorded {recorded}, kvsim {found}"


def _apart(recorded: object, found: object) -> tuple[str, str]:
    """Both values from where they part, each at most ``SHOWN`` characters."""
    if isinstance(recorded, list) and isinstance(found, list):
        common = 0
        while common < min(len(recorded), len(found)) and recorded[common] == found[common]:
            common += 1
        head = "... " if common else ""
        return head + _short(recorded[common:]), head + _short(found[common:])
    if isinstance(recorded, dict) and isinstance(found, dict):
        keys = [key for key in {**recorded, **found} if recorded.get(key) != found.get(key)]
        return tuple(_short({key: side[key] for key in keys if key in side}) for side in (recorded, found))  # type: ignore[return-value]
    return str(recorded), str(found)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
