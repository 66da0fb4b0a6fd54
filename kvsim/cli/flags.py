"""The flags of the root command: what each takes, its default, its line of help."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from kvsim.cli import options


@dataclass(frozen=True)
class Flags:
    """What was said on the command line, in the order of ``--help``; a parameter of the command each."""

    pd: Annotated[bool, typer.Option("--pd", help="Prefill/decode separation next to unified serving.")] = False
    cluster: Annotated[bool, typer.Option("--cluster", help="Racks, their memory pools, tiers side by side.")] = False
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML merged over the defaults in config.yaml.")
    ] = None
    calibration_profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Overlay with measured figures, or a shipped profile's name; none: without."),
    ] = None
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Scale: smoke, dev, prod-eval.")] = None
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set one key of the configuration; repeatable.")
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")] = (
        None
    )
    engine: Annotated[
        str | None, typer.Option(metavar="LINE", help="The server's command line: 'vllm serve MODEL --flag ...'.")
    ] = None
    engine_args: Annotated[
        Path | None, typer.Option(metavar="FILE", help="vLLM's arguments as YAML, in place of --engine.")
    ] = None
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="The GPU, e.g. h100-sxm; as hardware.gpu.")] = None
    gpus: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="GPUs of the simulated cluster, in all.")
    ] = None
    tp: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="GPUs an instance, as tensor_parallel_size.")
    ] = None
    slo: Annotated[str | None, typer.Option(metavar="ttft=MS,tpot=MS", help="Limits of a good request, as slo.*.")] = (
        None
    )
    client_timeout: options.ClientTimeout = None
    retries: options.Retries = None
    workload: Annotated[
        str | None,
        typer.Option(
            metavar="W", help="Requests in a word: sharegpt, chat, rag, agent, summarise, code, in=2000,out=300."
        ),
    ] = None
    requests: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="How many of --workload; default: an hour's.")
    ] = None
    rate: Annotated[
        float | None, typer.Option(metavar="R", parser=options.positive, help="Arrivals a second, in place of --load.")
    ] = None
    workload_trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve this trace instead of synthetic traffic.")
    ] = None
    workload_format: options.WorkloadFormat = "auto"
    workload_limit: options.WorkloadLimit = None
    workload_time_unit: options.TimeUnit = "auto"
    workload_arrival_scale: options.ArrivalScale = 1.0
    workload_include_failed: options.IncludeFailed = False
    workload_hash_tokens_per_block: options.HashTokens = None
    workload_dequantise: options.Dequantise = False
    strict_workload_validation: options.Strict = False
    workload_replicas: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=options.count, help="Serve N time-shifted copies of the trace; default: by --load."
        ),
    ] = None
    load: Annotated[
        float | None,
        typer.Option(metavar="RHO", parser=options.positive, help="Bring arrivals to this share of the maximum rate."),
    ] = None
    load_of: Annotated[
        str | None,
        typer.Option(metavar="SYSTEM", parser=options.load_system, help="Whose maximum rate: pd (default) or unified."),
    ] = None
    systems: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME", parser=options.systems, help="What --pd runs: unified, pd; default: unified,pd."
        ),
    ] = None
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Policy bundles, eviction policies or package.module:Class to compare."),
    ] = None
    stepwise: Annotated[bool, typer.Option("--stepwise", help="One event per engine step: slow, the same results.")] = (
        False
    )
    report_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write the report as JSON; -: to stdout."),
    ] = None
    report_csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=options.or_stdout, help="Write one row per request as CSV; -: to stdout."
        ),
    ] = None
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=FILE",
            help="Write the run for another tool: csv, parquet, perfetto, prometheus, vllm-bench, llmd, aiperf, "
            "mooncake; repeatable.",
        ),
    ] = None
    report_html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write a page with charts: one file, offline."),
    ] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pictures, created if missing.")] = None
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no pictures.")] = False
    show_plot: Annotated[bool, typer.Option("--show-plot", help="Open the pictures.")] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Conclusions alone, of the run and of studies, a line each.")
    ] = False
    studies: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Studies to run, of those that '--studies list' names. Default: all of the mode.",
        ),
    ] = None
    no_studies: Annotated[bool, typer.Option("--no-studies", help="Run no studies.")] = False
    skip_context_sweep: Annotated[bool, typer.Option("--skip-context-sweep", help="No study of context lengths.")] = (
        False
    )
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="KEY=V1,V2",
            help="With --pd: serve the same requests with other values of a setting (or stepwise=true); repeatable.",
        ),
    ] = None
    replications: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=options.several,
            help="Repeat what is compared on other requests until it is certain, at most N times, 2 or more.",
        ),
    ] = None
    cpu_budget: options.CpuBudget = None
    no_train: Annotated[
        bool, typer.Option("--no-train", help="The learned policy as shipped, which is the default.")
    ] = False
    learned_train_mode: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            parser=options.train_mode,
            help="Train the learned policy on the first requests, which do not count (warmup) or are left out (split).",
        ),
    ] = None
    learned_train_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            parser=options.share,
            help="Share of the requests to train on; default: policies.learned_train_fraction, 0.3 as shipped.",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=options.count, help="Simulations at a time, a process each; default: the cores."
        ),
    ] = None
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False


def taking_flags(command: Callable[[typer.Context, Flags], int]) -> Callable[..., int]:
    """``command`` with a parameter for each field of ``Flags``, in place of one that has them all."""

    @functools.wraps(command)
    def with_flags(ctx: typer.Context, **given: Any) -> int:
        return command(ctx, Flags(**given))

    own = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    return options.with_parameters(with_flags, [own, *options.parameters_of(Flags)])
