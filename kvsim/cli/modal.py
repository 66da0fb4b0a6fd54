"""``kvsim modal MODE``: vLLM on a rented GPU, measured there; what it costs at most is said before, and held to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli import options
from kvsim.cli.saying import DONE, OTHER
from kvsim.cli.usage import FlagError
from kvsim.errors import nearest

if TYPE_CHECKING:
    from kvsim.measure.cloud.plan import CloudPlan

RESULTS = Path("results/modal")
MODES = ("probe", "tiny", "engine", "streaming", "concurrent", "sweep")
"""As ``kvsim.measure.cloud.modes``, which is not imported for ``--help``."""
DEFAULT_GPU, DEFAULT_MODEL, DEFAULT_LOAD_S, DEFAULT_MAX_USD = "l4", "Qwen/Qwen3-0.6B", 90.0, 5.0
"""As ``kvsim.measure.cloud.plan.Ask`` has them."""


def mode(text: str) -> str:
    """A mode."""
    if text not in MODES:
        raise typer.BadParameter(f"{text!r}; {nearest(text, MODES)}")
    return text


def counts(text: str) -> str:
    """Whole numbers from 1 on, separated by commas."""
    return ",".join(str(options.count(each.strip())) for each in text.split(","))


@dataclass(frozen=True, kw_only=True)
class ModalFlags:
    """The flags of ``modal``."""

    mode: Annotated[
        str | None,
        typer.Argument(metavar="MODE", parser=mode, help=f"What is run: {', '.join(MODES)}."),
    ] = None
    gpu: Annotated[
        str, typer.Option(metavar="NAME", help="T4, L4, A10, L40S, A100-40, A100-80, H100, H200 or B200.")
    ] = DEFAULT_GPU
    gpus: Annotated[int, typer.Option(metavar="N", parser=options.count, help="So many of them, tensor parallel.")] = 1
    model: Annotated[str, typer.Option(metavar="ID", help="A model of Hugging Face's.")] = DEFAULT_MODEL
    revision: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Of the model; default: the newest, whose commit is noted.")
    ] = None
    workload: Annotated[
        list[str] | None,
        typer.Option(metavar="W", help="As for predict: a word, in=512,out=128,prefix=256:4 or a trace; repeatable."),
    ] = None
    concurrency: Annotated[
        str | None,
        typer.Option(metavar="C,C,...", parser=counts, help="Users, each with one request in flight."),
    ] = None
    rate: Annotated[
        float | None, typer.Option(metavar="R", parser=options.positive, help="Requests a second, in place of users.")
    ] = None
    requests: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Of each load; default: 8 a user or more.")
    ] = None
    seconds: Annotated[
        float, typer.Option(metavar="S", parser=options.positive, help="A load is ended after so long.")
    ] = DEFAULT_LOAD_S
    server_args: Annotated[
        str, typer.Option(metavar="ARGS", help="Further flags of vllm serve, quoted: '--max-model-len 8192'.")
    ] = ""
    region: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where, as Modal names it; costs more than anywhere.")
    ] = None
    hf_secret: Annotated[
        str | None, typer.Option(metavar="NAME", help="The secret kept at Modal that has HF_TOKEN, for gated models.")
    ] = None
    max_usd: Annotated[
        float, typer.Option(metavar="USD", parser=options.positive, help="The run is ended before it costs more.")
    ] = DEFAULT_MAX_USD
    seed: Annotated[int, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")] = 0
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of what comes back; default: results/modal.")
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run and what it costs at most; asks Modal nothing.")
    ] = False
    json_out: options.JsonOut = None


@options.taking(ModalFlags)
def modal(flags: ModalFlags) -> int:
    """Measure vLLM on a GPU rented from Modal, for at most --max-usd.

    kvsim modal streaming --gpu h100 --model Qwen/Qwen3-8B --dry-run
    """
    if flags.mode is None:
        raise FlagError(f"modal: MODE is missing; known: {', '.join(MODES)}")
    from kvsim.cli.validate_text import check_json, write_json
    from kvsim.measure.cloud.modes import Mode
    from kvsim.measure.cloud.plan import Ask, plan_for
    from kvsim.measure.cloud.words import plan_words

    ask = Ask(
        mode=Mode(flags.mode),
        gpu=flags.gpu,
        gpus=flags.gpus,
        model=flags.model,
        revision=flags.revision,
        workloads=tuple(flags.workload or ()),
        concurrency=tuple(map(int, flags.concurrency.split(","))) if flags.concurrency else (),
        rate_per_s=flags.rate,
        requests=flags.requests,
        load_s=flags.seconds,
        server_args=flags.server_args,
        region=flags.region,
        max_usd=flags.max_usd,
        hf_secret=flags.hf_secret,
        seed=flags.seed,
    )
    check_json(flags.json_out, {})
    plan = plan_for(ask)
    if flags.dry_run:
        sys.stdout.write(plan_words(plan))
        write_json(flags.json_out, plan.dump())
        return DONE
    return _run(plan, flags)


def _run(plan: CloudPlan, flags: ModalFlags) -> int:
    from kvsim.cli.validate_text import write_json
    from kvsim.measure.cloud.results import check_folder, read_back, write_files
    from kvsim.measure.cloud.words import outcome_words, plan_words
    from kvsim.measure.modal_app import check_account, run_on_modal

    folder = flags.out or RESULTS
    check_folder(folder)
    check_account()
    sys.stdout.write(plan_words(plan))
    sys.stdout.flush()
    files = run_on_modal(plan, _tell)
    write_files(folder, files)
    found: dict[str, Any] = read_back(folder)
    sys.stdout.write(outcome_words(found, folder))
    write_json(flags.json_out, found)
    return DONE if all(load["status"] == "ok" for load in found["loads"]) else OTHER


def _tell(line: str) -> None:
    print(f"kvsim: {line}", file=sys.stderr)
