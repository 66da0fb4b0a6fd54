"""``kvsim steps``: of a server's steps, what takes how long, and how far that is from what its GPUs could do."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.steptime.batch import Batch


@dataclass(frozen=True, kw_only=True)
class StepsFlags:
    """The flags of ``steps``."""

    engine: Annotated[
        str | None, typer.Option(metavar="LINE", help="The server's command line: 'vllm serve MODEL --flag ...'.")
    ] = None
    engine_args: Annotated[
        Path | None, typer.Option(metavar="FILE", help="vLLM's arguments as YAML, in place of --engine.")
    ] = None
    gpu: options.Gpu = None
    decode: Annotated[
        list[str] | None,
        typer.Option(metavar="N:CONTEXT", help="N sequences that decode on so many tokens each; repeatable."),
    ] = None
    prefill: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKENS[:PREFIX]", help="In the same step, so many of a prompt behind so many; repeatable."
        ),
    ] = None
    calibration_profile: options.CalibrationProfile = None
    set_: options.Sets = None
    json_out: options.JsonOut = None


@options.taking(StepsFlags)
def steps(flags: StepsFlags) -> int:
    """Explain what a step's time is made of.

    By operator: bytes, FLOPs, what bounds it, and the share of that limit which is reached. Without --decode and
    --prefill: one request that decodes, a full batch, a long prompt, and both in one step.
    """
    from kvsim.plan.deployment import launch_of, load_deployment
    from kvsim.plan.explained import explainer_of, usual_batches, warnings_of
    from kvsim.report.json_report import write_json
    from kvsim.report.step_table import step_lines, step_report

    asked = _batch(flags)
    _check_json(flags)
    launch = launch_of(flags.engine, flags.engine_args)
    loaded = load_deployment(launch, gpu=flags.gpu, profile=flags.calibration_profile, sets=flags.set_ or ())
    explainer = explainer_of(loaded)
    batches = usual_batches(explainer.instance.settings) if asked is None else (asked,)
    found = [explainer.explain(batch) for batch in batches]
    warnings = (*launch.warnings, *warnings_of(explainer))
    if flags.json_out is not None:
        write_json(flags.json_out, step_report(explainer, found, warnings))
    sys.stdout.write("".join(f"{line}\n" for line in step_lines(explainer, found, warnings)))
    return 0


def _check_json(flags: StepsFlags) -> None:
    if flags.json_out is None:
        return
    from kvsim.cli.outputs import check_file

    inputs = {"the engine's arguments": flags.engine_args, "the profile": flags.calibration_profile}
    check_file("--json", flags.json_out, {what: path for what, path in inputs.items() if path is not None}, "JSON")


def _batch(flags: StepsFlags) -> Batch | None:
    """The step that is asked for; ``None``: the usual ones."""
    from kvsim.steptime.batch import Batch, Decodes, PromptChunk

    decodes = [Decodes(*_pair("--decode", text, "N:CONTEXT, whole numbers from 1 on")) for text in flags.decode or ()]
    chunks = [
        PromptChunk(*_pair("--prefill", text, "TOKENS or TOKENS:PREFIX, whole numbers", least=0, default="0"))
        for text in flags.prefill or ()
    ]
    return Batch(tuple(decodes), tuple(chunks)) if decodes or chunks else None


def _pair(flag: str, text: str, allowed: str, *, least: int = 1, default: str = "") -> tuple[int, int]:
    """Two whole numbers, the first from 1 on, the second from ``least``."""
    first, _, second = text.partition(":")
    second = second if ":" in text else default
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (first, second)):
        raise FlagError(f"{flag}: {text!r}; allowed: {allowed}")
    pair = int(first), int(second)
    if pair[0] < 1 or pair[1] < least:
        raise FlagError(f"{flag}: {text!r}; allowed: {allowed}")
    return pair
