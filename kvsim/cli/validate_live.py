"""``validate live``: a server that runs, measured, beside what kvsim predicts for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.measure import SEED, MeasureFlags
from kvsim.cli.usage import FlagError
from kvsim.cli.validate_text import figure, percentage, wrapped

if TYPE_CHECKING:
    from kvsim.cli.outputs import Kind
    from kvsim.live.compare import Part
    from kvsim.live.deployment import Described
    from kvsim.live.validated import Validated
    from kvsim.measure.result import MeasuredRun

SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class LiveFlags(MeasureFlags):
    """The flags of ``validate live``, beside those of ``measure``."""

    url: Annotated[str, typer.Option(metavar="URL", help="The server: http://HOST:PORT; or --measured.")] = ""
    measured: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Rows that `kvsim measure` or another client wrote; each is a run."),
    ] = None
    line: Annotated[
        str | None,
        typer.Option(metavar="LINE", help="The server's command line; goes before what the server says of itself."),
    ] = None
    model_config: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A config.json, or a known model; default: as LINE or the server has it."),
    ] = None
    vllm_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Of the server; default: as it says, else a present one.")
    ] = ""
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="What it runs on.")] = None
    profile: Annotated[
        Path | None, typer.Option(metavar="PROFILE", help="Step times: a file, or a shipped profile's name.")
    ] = None
    set_: options.Sets = None
    repeats: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="Measure so often, with other prompts each time.")
    ] = 1
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Fit step times to the first part of each run, and judge on the rest."),
    ] = False
    calibrate_share: Annotated[
        float, typer.Option(metavar="X", parser=options.share, help="The first part's share of a run.")
    ] = SHARE
    profile_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was fitted as a calibration profile.")
    ] = None
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a row a request, measured, predicted.")] = None
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw predicted against measured.")] = None


@options.taking(LiveFlags)
def validate_live(flags: LiveFlags) -> int:
    """Measure a server, predict the same requests, compare (docs/live.md).

    kvsim validate live --url http://127.0.0.1:8000 --workload chat --rate 2 --duration 300 --calibrate
    """
    from kvsim.live.rows import served_of
    from kvsim.live.validated import validate

    _check(flags)
    before = _before(flags)
    found = _described(flags, before)
    runs = before or list(_measured(flags))
    names = _names(flags, runs)
    served = [served_of(run, name) for run, name in zip(runs, names, strict=True)]
    validated = validate(served, found, flags.calibrate_share if flags.calibrate else None)
    sys.stdout.write("".join(_told(validated)))
    _write(flags, validated, runs)
    return 0


def _check(flags: LiveFlags) -> None:
    """Raise a ``KvsimError`` for what cannot be, before anything is sent."""
    if bool(flags.url) == (flags.measured is not None):
        raise FlagError("validate live: give --url URL, or rows that were measured before by --measured FILE")
    if flags.gpu is not None and flags.profile is not None:
        raise FlagError("--gpu and --profile exclude each other: a profile is of one GPU; give one")
    if flags.profile_out is not None and not flags.calibrate:
        raise FlagError("--profile-out needs --calibrate: nothing is fitted without")
    if flags.measured is not None and flags.repeats > 1:
        raise FlagError("--repeats needs --url; give --measured once for each run")
    taken = {f"the rows {path.name}": path for path in flags.measured or () if not path.is_dir()}
    if flags.profile is not None:
        taken["the profile"] = flags.profile
    _check_files(flags, taken)


def _check_files(flags: LiveFlags, taken: dict[str, Path]) -> None:
    from kvsim.cli.measure import check_files
    from kvsim.cli.outputs import check_file

    for run in _by_run(flags):
        check_files(run)
    outputs: tuple[tuple[str, Path | None, Kind], ...] = (
        ("--json", flags.json_, "JSON"),
        ("--csv", flags.csv, "CSV"),
        ("--plot", flags.plot, "PNG"),
        ("--profile-out", flags.profile_out, "profile"),
    )
    for flag, path, kind in outputs:
        if path is not None:
            check_file(flag, path, taken, kind)
            taken = taken | {f"also that of {flag}": path}


def _described(flags: LiveFlags, before: list[MeasuredRun]) -> Described:
    """The server as it, or who measured it ``before``, and its line say it is. Raises ``ConfigError``."""
    from kvsim.launch import read_launch_line
    from kvsim.live.ask import Ask
    from kvsim.live.deployment import described
    from kvsim.live.rows import told_of
    from kvsim.live.server import told_by
    from kvsim.measure import server_of
    from kvsim.plan.vllm_defaults import checked_version

    told = told_by(Ask(server_of(flags.url, flags.api_key_env))) if flags.url else told_of(before[0])
    line = None if flags.line is None else read_launch_line(flags.line)
    return described(
        told,
        line,
        flags.model_config,
        gpu=flags.gpu,
        profile=flags.profile,
        sets=tuple(flags.set_ or ()),
        version=checked_version(flags.vllm_version, "--vllm-version"),
    )


def _before(flags: LiveFlags) -> list[MeasuredRun]:
    """What was measured before; nothing where a server is to be."""
    from kvsim.measure.files import measured_of

    return [run for path in flags.measured or () for run in measured_of(path)]


def _measured(flags: LiveFlags) -> Iterator[MeasuredRun]:
    """Send equal requests again and again, each time with other tokens, so that no run finds the KV of one before."""
    from kvsim.cli import served
    from kvsim.cli.measure import sending_of, workload_of, write_files
    from kvsim.measure import measure, server_of
    from kvsim.measure.measure import ensure_client

    served.ensure_one_pace(flags.rate, flags.concurrency)
    ensure_client()
    server = server_of(flags.url, flags.api_key_env)
    workload, words = workload_of(flags)
    for number, own in enumerate(_by_run(flags), 1):
        if not flags.quiet:
            print(f"kvsim: run {number} of {flags.repeats}: {len(workload):,} requests", file=sys.stderr)
        found = measure(server, workload, sending_of(own), words=words, seed=flags.seed)
        write_files(replace(own, json_=None), found)
        yield found


def _by_run(flags: LiveFlags) -> Iterator[LiveFlags]:
    """The flags of each run: prompts of its own, and files of its own where there are several."""
    from kvsim.export.base import with_part

    seed = flags.content_seed
    if seed is None:
        seed = SEED if flags.seed is None else flags.seed
    for number in range(flags.repeats):
        own = replace(flags, content_seed=seed + number)
        if flags.repeats > 1:
            out, bench = (
                None if path is None else with_part(path, f"{number + 1}") for path in (flags.out, flags.bench_json)
            )
            own = replace(own, out=out, bench_json=bench)
        yield own


def _names(flags: LiveFlags, runs: list[MeasuredRun]) -> list[str]:
    """What each run is called."""
    if flags.measured is None or len(flags.measured) != len(runs):
        return [f"run {number}" for number in range(1, len(runs) + 1)]
    names = [path.name for path in flags.measured]
    return names if len(set(names)) == len(names) else [str(path) for path in flags.measured]


def _told(found: Validated) -> Iterator[str]:
    from kvsim.live import words

    for sentence in (*words.head(found), *words.fitted(found)):
        yield wrapped(sentence)
    for warning in found.warnings:
        yield wrapped(f"warning: {warning}")
    if found.plain is not None and found.calibrated is not None:
        yield from _table("before calibration", found.plain.parts[-1])
    for part in found.best.parts if len(found.best.parts) == 1 else found.best.parts[1:]:
        yield from _table("", part)
    if found.best.parts[0].itl is not None and len(found.best.parts) > 1:
        yield from _table("", found.best.parts[0])
    yield wrapped(words.hit_words(found.best.parts[0].hits))
    for sentence in words.counter_words(found.best):
        yield wrapped(sentence)


def _table(before: str, part: Part) -> Iterator[str]:
    """Means side by side, and how far mean, percentiles and requests are off."""
    from kvsim.live import words

    title = f"{before}{', ' if before else ''}{part.name}: {part.requests:,} requests"
    yield f"{title}\n{'mean (ms), error (%)':<21}{'measured':>10}{'predicted':>10}"
    yield f"{'mean':>7}{'p50':>7}{'p90':>7}{'p99':>7}{'each':>7}\n"
    for name, measured, predicted, errors in words.rows(part):
        cells = "".join(percentage(each, 7) for each in errors[:-1])
        yield f"{name:<21}{figure(measured, 10)}{figure(predicted, 10)}{cells}"
        yield f"{percentage(errors[-1], 7, signed=False)}\n"
    over_runs = words.over_runs(part)
    if over_runs is not None:
        yield wrapped(over_runs)


def _write(flags: LiveFlags, found: Validated, runs: list[MeasuredRun]) -> None:
    from kvsim.cli.saying import one_line
    from kvsim.cli.validate_text import write_json
    from kvsim.report.atomic import is_stdout

    write_json(flags.json_, found.dump(runs))
    if flags.csv is not None:
        from kvsim.live.tables import write_requests

        write_requests(flags.csv, found.best, None if found.calibration is None else found.calibration.learned)
    if flags.plot is not None:
        from kvsim.live.pictures import picture
        from kvsim.report.plots import write_figure

        write_figure(flags.plot, picture(found))
    if flags.profile_out is not None:
        from kvsim.report.atomic import replacing
        from kvsim.validate.calibrate.profile import written as as_yaml

        with replacing(flags.profile_out) as file:
            file.write(as_yaml(found.profile(flags.profile_out.stem, runs)))
    written = [path for path in (flags.json_, flags.csv, flags.plot, flags.profile_out) if path is not None]
    for path in written if not flags.quiet else ():
        if not is_stdout(path):
            print(f"kvsim: {one_line(f'wrote {path}')}", file=sys.stderr)
