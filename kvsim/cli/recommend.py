"""``kvsim recommend``: which deployment of a server to take, and what to paste to get it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli import options, served
from kvsim.cli.saying import DONE
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.recommend import Question, Recommendation
    from kvsim.report.run_clock import RunClock

OBJECTIVES = ("gpus", "latency", "rate")
_MADE = "# kvsim recommend"
"""How the files begin that are written into the folder."""
_PICTURE = "pareto.png"


def objective(text: str) -> str:
    """What a deployment is chosen by."""
    if text not in OBJECTIVES:
        raise typer.BadParameter(f"{text!r}; allowed: {', '.join(OBJECTIVES)}")
    return text


@dataclass(frozen=True, kw_only=True)
class RecommendFlags(options.ReadingFlags):
    """The flags of ``recommend``."""

    line: Annotated[
        str,
        typer.Argument(metavar="LINE", help="The server's command line, quoted; its flags hold for all candidates."),
    ]
    gpu: options.Gpu = None
    gpus: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.count, help="GPUs there are; default: recommend.most_gpus."),
    ] = None
    workload: Annotated[
        str, typer.Option(metavar="W", help="What requests are, as for kvsim predict: a word, or a trace file.")
    ] = served.DEFAULT_WORKLOAD
    rate: Annotated[
        float | None,
        typer.Option(metavar="R", parser=options.positive, help="Requests a second; without, the largest is found."),
    ] = None
    slo: Annotated[
        str | None,
        typer.Option(
            metavar="ttft=MS,tpot=MS", help="Limits of a good request, also e2e=MS and share=0.99; default: slo.*."
        ),
    ] = None
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", parser=objective, help="gpus (fewest; with --rate the default), latency or rate (largest)."
        ),
    ] = None
    tiers: Annotated[
        str | None,
        typer.Option(metavar="T1,T2", help="Memory below the GPUs that is tried as well: dram, eic, ssd."),
    ] = None
    no_search: Annotated[
        bool, typer.Option("--no-search", help="Do not look for the winner's largest rate within the SLO.")
    ] = False
    calibration_profile: options.CalibrationProfile = None
    set_: options.Sets = None
    seed: served.Seed = None
    report_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write the answer as JSON; -: to stdout."),
    ] = None
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the files to paste and the picture; without, none.")
    ] = None
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no picture.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="The conclusion and its reason alone.")] = False
    jobs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
    ] = None


@options.taking(RecommendFlags)
def recommend(flags: RecommendFlags) -> int:
    """Find the best deployment for a rate within an SLO, and what to paste for it.

    kvsim recommend "vllm serve meta-llama/Llama-3.1-70B-Instruct" --gpu h100-sxm --gpus 16 --rate 15
    """
    from kvsim.recommend import recommend as recommended
    from kvsim.report.progress import progress_bar
    from kvsim.report.run_clock import RunClock
    from kvsim.sim.executor import Processes

    clock = RunClock()
    question = _question(flags)
    _check(flags)
    workers = options.cores() if flags.jobs is None else flags.jobs
    with Processes(workers, partial(progress_bar, quiet=flags.quiet)) as executor:
        found = recommended(question, executor)
        others_cpu_s = executor.cpu_s
    return _hand_over(flags, found, clock, others_cpu_s)


def _question(flags: RecommendFlags) -> Question:
    from kvsim.launch import read_launch_line
    from kvsim.recommend import Question

    slo_sets, e2e_ms = slo_of(flags.slo)
    _ensure_once(slo_sets, flags.set_ or ())
    seed = () if flags.seed is None else (f"seed={flags.seed}",)
    tiers = () if flags.tiers is None else tuple(name.strip() for name in flags.tiers.split(","))
    kind: Any = flags.objective
    return Question(
        words=flags.line,
        launch=read_launch_line(flags.line),
        source=served.source_of(flags.workload, served.reading_of(flags), None, None),
        gpu=flags.gpu,
        gpus=flags.gpus,
        rate_per_s=flags.rate,
        objective=kind,
        e2e_ms=e2e_ms,
        tiers=tiers,
        searches_rate=not flags.no_search,
        profile=flags.calibration_profile,
        sets=(*slo_sets, *(flags.set_ or ()), *seed),
    )


def _ensure_once(slo_sets: tuple[str, ...], sets: Sequence[str]) -> None:
    """Raise ``FlagError`` for a limit that --slo gives and --set would overrule."""
    from kvsim.config.load import set_values

    for key in set_values(sets).keys() & set_values(slo_sets).keys():
        raise FlagError(f"--slo and --set both give {key}; give one")


def slo_of(text: str | None) -> tuple[tuple[str, ...], float | None]:
    """``ttft=MS,tpot=MS,e2e=MS,share=S``, any of them, as assignments, and the limit of E2E."""
    keys = {"ttft": "slo.ttft_ms", "tpot": "slo.tpot_ms", "share": "slo.share"}
    found: dict[str, str] = {}
    for part in text.split(",") if text is not None else ():
        name, _, value = part.strip().partition("=")
        is_number = re.fullmatch(r"(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", value) is not None and 0 < float(value) < math.inf
        if name not in (*keys, "e2e") or not is_number:
            raise FlagError(f"--slo: {part.strip()!r}; allowed: ttft=MS,tpot=MS,e2e=MS,share=0.99, each a number > 0")
        if name == "share" and float(value) > 1:
            raise FlagError(f"--slo: {part.strip()!r}; allowed: a share of at most 1, such as 0.99")
        if name in found:
            raise FlagError(f"--slo: {name} is given twice; give one")
        found[name] = value
    sets = tuple(f"{keys[name]}={float(value)!r}" for name, value in found.items() if name in keys)
    return sets, float(found["e2e"]) if "e2e" in found else None


def _check(flags: RecommendFlags) -> None:
    """Raise a ``KvsimError`` for files that could not be written, before anything is simulated."""
    from kvsim.cli.outputs import Outputs, Reports, check_file

    if flags.report_json is not None:
        check_file("--report-json", flags.report_json, {"the workload": Path(flags.workload)}, "JSON")
    if flags.out is None:
        return
    Outputs(Reports(None, None), flags.out, plots=True).check({})
    for name in (*_texts(None), _PICTURE):
        path = flags.out / name
        if path.is_file() and not path.read_bytes().startswith((_MADE.encode(), b"\x89PNG")):
            raise FlagError(f"--out: {str(path)!r} is there and no file of kvsim recommend's; another folder is wanted")


def _texts(found: Recommendation | None) -> dict[str, str]:
    """The files to paste, by name; without a recommendation their names alone."""
    if found is None:
        return dict.fromkeys(("vllm.sh", "dynamo.yaml", "llm-d-values.yaml", "kserve.yaml"), "")
    own = found.configuration
    head = f"{_MADE}: {found.best[0].name}, {found.best[0].gpus} x {found.asked.gpu}\n"
    lines = [f"# {one.servers} x {one.role}, {one.gpus_each} GPUs each\n{one.command}\n" for one in own.vllm]
    notes = [f"# {note}\n" for note in own.notes]
    return {
        "vllm.sh": head + "".join((*notes, *lines)),
        "dynamo.yaml": head + own.dynamo,
        "llm-d-values.yaml": head + own.llmd,
        "kserve.yaml": head + own.kserve,
    }


def _hand_over(flags: RecommendFlags, found: Recommendation, clock: RunClock, others_cpu_s: float) -> int:
    from rich.console import Console

    from kvsim.recommend.tables import WIDTH, print_recommendation
    from kvsim.report.atomic import reaching_stdout
    from kvsim.report.json_report import write_json

    if flags.report_json is not None:
        write_json(
            flags.report_json, {"run": clock.cost("recommend", found.asked.seed, others_cpu_s)} | found.as_json()
        )
    if flags.out is not None:
        _write_folder(flags.out, found, plots=not flags.no_plot)
    with reaching_stdout():
        console = Console(highlight=False, width=WIDTH)
        if flags.quiet:
            print(found.conclusion)
            print(found.reason)
        else:
            print_recommendation(console, found)
    return DONE


def _write_folder(folder: Path, found: Recommendation, *, plots: bool) -> None:
    from kvsim.report.atomic import replacing

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _texts(found).items():
        with replacing(folder / name) as file:
            file.write(text.encode())
    if plots:
        from kvsim.recommend.pareto import picture
        from kvsim.report.plots import write_figure

        title = f"{found.asked.model} on {found.asked.gpu}"
        subtitle = f"{found.rate_per_s:.4g} requests/s of {found.asked.workload}, each point a run of the same requests"
        write_figure(folder / _PICTURE, picture(found.pareto, title, subtitle, found.asked.slo))
