"""The run that the root command's flags describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsim.cli import options
from kvsim.cli.flags import Flags
from kvsim.cli.predict import slo_sets
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.capacity.sources import WordSource
    from kvsim.cli.run import Command
    from kvsim.plan.mode import ModeName
    from kvsim.workload.traffic import TraceSource


def check_flags(flags: Flags, given: dict[str, str]) -> None:
    """Raise ``FlagError`` for flags that exclude each other, or that lack one they need."""
    if flags.pd and flags.cluster:
        raise FlagError("--cluster and --pd exclude each other; give one")
    if flags.no_plot and flags.show_plot:
        raise FlagError("--no-plot and --show-plot exclude each other; give one")
    if flags.no_studies and flags.studies is not None:
        raise FlagError("--no-studies and --studies exclude each other; give one")
    if flags.systems is not None and not flags.pd:
        raise FlagError("--systems needs --pd: the other modes run unified instances")
    if flags.workload is not None and flags.workload_trace is not None:
        raise FlagError("--workload and --workload-trace exclude each other; give one")
    if flags.requests is not None and flags.workload is None:
        raise FlagError("--requests needs --workload; a trace takes --workload-limit, synthetic traffic num_requests")
    if flags.rate is not None and flags.load is not None:
        raise FlagError("--rate and --load exclude each other; give one")
    if flags.load_of is not None and not flags.pd:
        raise FlagError("--load-of needs --pd: the other modes run unified instances alone")
    if flags.load_of is not None and flags.load is None and flags.workload_trace is not None:
        raise FlagError("--load-of needs --load beside --workload-trace: without, the trace runs at its own rate")
    if flags.compare and not flags.pd:
        raise FlagError("--compare needs --pd; here --policy names what is compared, and --set changes one run")
    if flags.workload_trace is None:
        _refuse_trace_flags(given)
    if flags.pd and flags.policy is not None:
        _check_policies(flags.policy)


def command_of(flags: Flags, given: dict[str, str]) -> Command:
    """The run that the root command's flags describe. Raises a ``KvsimError``."""
    from kvsim.cli.outputs import Reports
    from kvsim.cli.run import Command
    from kvsim.modes.variants import Layers
    from kvsim.plan.deployment import launch_of, launch_words

    mode: ModeName = "pd" if flags.pd else "cluster" if flags.cluster else "single"
    has_launch = flags.engine is not None or flags.engine_args is not None
    launch = launch_of(flags.engine, flags.engine_args) if has_launch else None
    seed = () if flags.seed is None else (f"seed={flags.seed}",)
    layers = Layers(
        config=flags.config,
        profile=flags.calibration_profile,
        preset=flags.preset,
        sets=(
            *slo_sets(flags.slo),
            *options.client_sets(flags.client_timeout, flags.retries),
            *(flags.assignments or ()),
            *seed,
            *options.budget_sets(flags.cpu_budget),
        ),
    )
    return Command(
        mode=mode,
        layers=layers.with_server(mode, launch, flags.gpu, flags.gpus, flags.tp),
        launch=None if launch is None else (launch_words(flags.engine, flags.engine_args), launch),
        trace=_trace(flags),
        rate_per_s=flags.rate,
        load=flags.load,
        load_of=flags.load_of,
        systems=options.SYSTEMS if flags.systems is None else tuple(flags.systems.split(",")),
        policy=flags.policy,
        replicas=flags.workload_replicas,
        stepwise=flags.stepwise,
        studies=None if flags.studies is None else tuple(name.strip() for name in flags.studies.split(",")),
        no_studies=flags.no_studies,
        skip_context_sweep=flags.skip_context_sweep,
        replications=flags.replications or 0,
        comparisons=tuple(flags.compare or ()),
        reports=Reports(flags.report_json, flags.report_csv, flags.report_html),
        exports=tuple(flags.export or ()),
        out=flags.out,
        plots=not flags.no_plot,
        show_plots=flags.show_plot,
        quiet=flags.quiet,
        jobs=options.cores() if flags.jobs is None else flags.jobs,
        train=_train(flags),
        given=given,
    )


def _trace(flags: Flags) -> TraceSource | WordSource | None:
    from kvsim.capacity.sources import WordSource
    from kvsim.workload.reading import Reading
    from kvsim.workload.traffic import TraceSource

    if flags.workload is not None:
        from kvsim.workload.words import word_of

        return WordSource(word_of(flags.workload), num_requests=flags.requests)
    if flags.workload_trace is None:
        return None
    reading = Reading(**{field: getattr(flags, name) for name, (field, _, _) in options.READING.items()})
    return TraceSource(flags.workload_trace, reading)


def _train(flags: Flags) -> tuple[str, float | None] | None:
    mode, fraction = flags.learned_train_mode, flags.learned_train_fraction
    if flags.pd:
        return None
    if flags.no_train and (mode is not None or fraction is not None):
        raise FlagError("--no-train excludes --learned-train-mode and --learned-train-fraction; give one")
    if mode is None and fraction is None:
        return None
    return mode or "warmup", fraction


def _check_policies(names: str) -> None:
    """Raise ``ConfigError`` for one that no mode knows: what has no effect is a warning, what is wrong is not."""
    from kvsim.config.bundles import find_bundles
    from kvsim.policy.eviction import EVICTIONS

    find_bundles([name.strip() for name in names.split(",")], list(EVICTIONS))


def _refuse_trace_flags(given: dict[str, str]) -> None:
    for name, flag in given.items():
        if name.startswith(("workload_", "strict_workload_")):
            raise FlagError(f"{flag} needs --workload-trace FILE: synthetic traffic is described in the configuration")
