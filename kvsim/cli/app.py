"""The root command: the modes and all their flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import kvsim
from kvsim.cli import options
from kvsim.cli.calibrate import calibrate_app
from kvsim.cli.hits import hits
from kvsim.cli.learn import learn_app
from kvsim.cli.trace import trace_app
from kvsim.cli.usage import FlagError, Verbs, flags_given
from kvsim.cli.validate import validate_app

TRAIN_FRACTION = 0.3

app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.add_typer(trace_app, name="trace")
app.add_typer(calibrate_app, name="calibrate")
app.add_typer(validate_app, name="validate")
app.add_typer(learn_app, name="learn")
app.command()(hits)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    pd: Annotated[bool, typer.Option("--pd", help="Prefill/decode separation next to unified serving.")] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Racks, their memory pools, tiers side by side.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML merged over the defaults in config.yaml.")
    ] = None,
    calibration_profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Overlay with measured figures, or a shipped profile's name; none: without."),
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Scale: smoke, dev, prod-eval.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set one key of the configuration; repeatable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")
    ] = None,
    workload_trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve this trace instead of synthetic traffic.")
    ] = None,
    workload_format: options.WorkloadFormat = "auto",
    workload_limit: options.WorkloadLimit = None,
    workload_time_unit: options.TimeUnit = "auto",
    workload_arrival_scale: options.ArrivalScale = 1.0,
    workload_include_failed: options.IncludeFailed = False,
    workload_hash_tokens_per_block: options.HashTokens = None,
    workload_dequantise: options.Dequantise = False,
    strict_workload_validation: options.Strict = False,
    workload_replicas: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=options.count, help="Serve N time-shifted copies of the trace; default: by --load."
        ),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(metavar="RHO", parser=options.positive, help="Bring arrivals to this share of the maximum rate."),
    ] = None,
    load_of: Annotated[
        str | None,
        typer.Option(metavar="SYSTEM", parser=options.load_system, help="Whose maximum rate: pd (default) or unified."),
    ] = None,
    systems: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME", parser=options.systems, help="What --pd runs: unified, pd; default: unified,pd."
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Policy bundles, eviction policies or package.module:Class to compare."),
    ] = None,
    stepwise: Annotated[
        bool, typer.Option("--stepwise", help="One event per engine step: slow, the same results.")
    ] = False,
    report_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write the report as JSON; -: to stdout."),
    ] = None,
    report_csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=options.or_stdout, help="Write one row per request as CSV; -: to stdout."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pictures, created if missing.")] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no pictures.")] = False,
    show_plot: Annotated[bool, typer.Option("--show-plot", help="Open the pictures.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Neither progress nor tables, the conclusion alone.")] = False,
    studies: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Studies to run, of those that '--studies list' names. Default: all of the mode.",
        ),
    ] = None,
    no_studies: Annotated[bool, typer.Option("--no-studies", help="Run no studies.")] = False,
    skip_context_sweep: Annotated[
        bool, typer.Option("--skip-context-sweep", help="No study of context lengths.")
    ] = False,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="KEY=V1,V2",
            help="With --pd: serve the same requests with other values of a setting (or stepwise=true); repeatable.",
        ),
    ] = None,
    no_train: Annotated[
        bool, typer.Option("--no-train", help="The learned policy as shipped, which is the default.")
    ] = False,
    learned_train_mode: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            parser=options.train_mode,
            help="Train the learned policy on the first requests, which do not count (warmup) or are left out (split).",
        ),
    ] = None,
    learned_train_fraction: Annotated[
        float | None,
        typer.Option(metavar="X", parser=options.share, help="Share of the requests to train on; default 0.3."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=options.count, help="Simulations at a time, a process each; default: the cores."
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    """Simulate an LLM-serving cluster: what TTFT, TPOT, throughput and cache hit rate it would give, and why.

    Start with: kvsim --pd --preset dev
    """
    if version:
        print(f"kvsim {kvsim.__version__}")
        return 0
    given = flags_given(ctx)
    if ctx.invoked_subcommand is not None:
        if given:
            raise FlagError(f"{next(iter(given.values()))} does not go with the command '{ctx.invoked_subcommand}'")
        return 0
    if pd and cluster:
        raise FlagError("--cluster and --pd exclude each other; give one")
    if no_plot and show_plot:
        raise FlagError("--no-plot and --show-plot exclude each other; give one")
    if no_studies and studies is not None:
        raise FlagError("--no-studies and --studies exclude each other; give one")
    if systems is not None and not pd:
        raise FlagError("--systems needs --pd: the other modes run unified instances")
    if load_of is not None and not pd:
        raise FlagError("--load-of needs --pd: the other modes run unified instances alone")
    if load_of is not None and load is None and workload_trace is not None:
        raise FlagError("--load-of needs --load beside --workload-trace: without, the trace runs at its own rate")
    if compare and not pd:
        raise FlagError("--compare needs --pd; here --policy names what is compared, and --set changes one run")
    if workload_trace is None:
        _refuse_trace_flags(given)
    if pd and policy is not None:
        _check_policies(policy)
    from kvsim.cli.run import Command, list_studies, run_command
    from kvsim.modes.training import Train
    from kvsim.report.json_report import RunClock
    from kvsim.workload.traffic import TraceSource

    if studies == "list":
        list_studies()
        return 0
    clock = RunClock()
    train = None if pd else _train_mode(learned_train_mode, learned_train_fraction, no_train)
    fraction = TRAIN_FRACTION if learned_train_fraction is None else learned_train_fraction
    command = Command(
        mode="pd" if pd else "cluster" if cluster else "single",
        config=config,
        profile=calibration_profile,
        preset=preset,
        sets=(*(assignments or ()), *(() if seed is None else (f"seed={seed}",))),
        trace=None
        if workload_trace is None
        else TraceSource(
            path=workload_trace,
            fmt=workload_format,
            limit=workload_limit,
            time_unit=workload_time_unit,
            arrival_scale=workload_arrival_scale,
            include_failed=workload_include_failed,
            hash_tokens_per_block=workload_hash_tokens_per_block,
            strict=strict_workload_validation,
            dequantise=workload_dequantise,
        ),
        load=load,
        load_of=load_of,
        systems=options.SYSTEMS if systems is None else tuple(systems.split(",")),
        policy=policy,
        replicas=workload_replicas,
        stepwise=stepwise,
        studies=None if studies is None else tuple(name.strip() for name in studies.split(",")),
        no_studies=no_studies,
        skip_context_sweep=skip_context_sweep,
        comparisons=tuple(compare or ()),
        report_json=report_json,
        report_csv=report_csv,
        out=out,
        plots=not no_plot,
        show_plots=show_plot,
        quiet=quiet,
        jobs=options.cores() if jobs is None else jobs,
        train=None if train is None else Train(train, fraction),
        given=given,
    )
    return run_command(command, clock)


def _train_mode(mode: str | None, fraction: float | None, no_train: bool) -> str | None:
    if no_train and (mode is not None or fraction is not None):
        raise FlagError("--no-train excludes --learned-train-mode and --learned-train-fraction; give one")
    return mode if fraction is None or mode is not None else "warmup"


def _check_policies(names: str) -> None:
    """Raise ``ConfigError`` for one that no mode knows: what has no effect is a warning, what is wrong is not."""
    from kvsim.config.bundles import find_bundles
    from kvsim.policy.eviction import EVICTIONS

    find_bundles([name.strip() for name in names.split(",")], list(EVICTIONS))


def _refuse_trace_flags(given: dict[str, str]) -> None:
    for name, flag in given.items():
        if name.startswith(("workload_", "strict_workload_")):
            raise FlagError(f"{flag} needs --workload-trace FILE: synthetic traffic is described in the configuration")
