"""``kvsim serve``: the simulated engine behind an OpenAI-compatible HTTP server."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.usage import FlagError
from kvsim.errors import KvsimError

if TYPE_CHECKING:
    from kvsim.launch.front_end import FrontEnd
    from kvsim.serve.deployed import Deployed

PASSES_ON = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
"""What this command does not know is vLLM's: flags may begin with -h there, too."""


@dataclass(frozen=True, kw_only=True)
class ServeFlags:
    """The flags of ``serve`` that are kvsim's own."""

    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL --FLAG", help="As vllm serve takes them; default: Llama-3.2-1B-Instruct."),
    ] = None
    gpu: options.Gpu = None
    instances: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.count, help="So many such servers; default: 1, with --pd 2."),
    ] = None
    pd: Annotated[bool, typer.Option("--pd", help="Prefill and decode instances, on these servers' GPUs.")] = False
    speed: Annotated[
        float, typer.Option(metavar="X", parser=options.positive, help="Let time run X times as fast.")
    ] = 1.0
    responses: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Answers by prompt: {"prompt": ..., "response": ...} a line.'),
    ] = None
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model's tokenizer.json; default: about four characters a token."),
    ] = None
    most_body_mb: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="Refuse larger requests, in MiB.")
    ] = 16
    calibration_profile: options.CalibrationProfile = None
    set_: options.Sets = None


@options.taking(ServeFlags)
def serve(flags: ServeFlags) -> int:
    """Be a server: the simulated engine answers OpenAI's API in real time.

    kvsim serve meta-llama/Llama-3.1-8B-Instruct --gpu h100-sxm --port 8000
    """
    if "-h" in (flags.words or ()):
        raise FlagError("'-h' is no flag of vllm serve; see kvsim serve --help")
    try:
        from kvsim.serve import serving
    except ImportError as error:
        raise KvsimError(f"serve: {error}; pip install 'kvsim[live]'") from None
    from kvsim.launch.front_end import read_front_end
    from kvsim.serve.deployed import deploy

    launch, front_end = read_front_end(flags.words or (), os.environ)
    seed = () if front_end.seed is None else (f"seed={front_end.seed}",)
    deployed = deploy(
        launch,
        separated=flags.pd,
        gpu=flags.gpu,
        instances=flags.instances,
        profile=flags.calibration_profile,
        sets=(*(flags.set_ or ()), *seed),
    )
    for warning in (*launch.warnings, *deployed.warnings()):
        print(f"kvsim: warning: {warning}", file=sys.stderr)
    pacing = serving.Pacing(flags.speed, flags.responses, flags.tokenizer, flags.most_body_mb * 1024 * 1024)
    config, engine = serving.application(deployed, front_end, pacing)
    at = serving.listening(front_end.host, front_end.port)
    _say(deployed, front_end, flags.speed, at.getsockname()[1])
    if engine.forgets:
        print(
            "kvsim: warning: tiers hold more than is remembered of prompts: hits in them may be missed", file=sys.stderr
        )
    serving.serve(config, at)
    return 0


def _say(deployed: Deployed, front_end: FrontEnd, speed: float, port: int) -> None:
    """What is served, where, and what of it is not as it might seem."""
    config, settings = deployed.config, deployed.instances[0].settings
    host = f"[{front_end.host}]" if ":" in front_end.host else front_end.host
    what = f"{len(deployed.instances)} x {config.model.name} on {config.hardware.gpu}"
    pace = "" if speed == 1 else f", {speed:g} times as fast"
    print(f"kvsim serve: {what}, {settings.num_blocks:,} KV blocks of {settings.block_size} tokens each{pace}")
    if not front_end.names_model:
        print("kvsim serve: no model is named: requests for any model are answered as of this one")
    print(f"kvsim serve: listening on http://{host}:{port}", flush=True)
