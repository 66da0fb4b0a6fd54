"""Cases as a command line names them: reports, configurations, or the words of a command of their own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kvsim.cli.usage import FlagError, flags_given

if TYPE_CHECKING:
    from kvsim.difference.asked import AskedCase
    from kvsim.plan.mode import ModeName

_NO_CASE = frozenset(
    {
        "version",
        "report_json",
        "report_csv",
        "report_html",
        "export",
        "out",
        "no_plot",
        "show_plot",
        "quiet",
        "studies",
        "no_studies",
        "skip_context_sweep",
        "compare",
        "no_train",
        "learned_train_mode",
        "learned_train_fraction",
        "jobs",
        "no_search",
    }
)
"""Parameters of the root command and of ``predict`` that say nothing of a case."""
PREDICT = "predict"


@dataclass(frozen=True)
class Layered:
    """What flags say of configuration files."""

    mode: ModeName
    preset: str | None
    sets: tuple[str, ...]
    given: Mapping[str, str]
    """The flags that say so, as parameter to spelling."""


def layered(pd: bool, cluster: bool, preset: str | None, sets: Sequence[str] | None) -> Layered:
    """From a verb's flags. Raises ``FlagError`` for two modes."""
    if pd and cluster:
        raise FlagError("--cluster and --pd exclude each other; give one")
    said = {"--pd": pd, "--cluster": cluster, "--preset": preset is not None, "--set": bool(sets)}
    given = {flag: flag for flag, is_given in said.items() if is_given}
    return Layered("pd" if pd else "cluster" if cluster else "single", preset, tuple(sets or ()), given)


def case_of_file(path: Path, how: Layered) -> AskedCase:
    """A report as it was run, or a configuration file in the mode and with the preset that flags name.

    Raises a ``KvsimError`` for a file that is neither, and for flags beside a report.
    """
    from kvsim.difference.report_file import is_json, read_report

    if is_json(path):
        for flag in how.given:
            raise FlagError(f"{flag} does not go with {str(path)!r}: a report says itself what was run")
        return read_report(path)
    words = [f"--{how.mode}"] if how.mode != "single" else []
    words += ["--config", str(path)] + (["--preset", how.preset] if how.preset is not None else [])
    return replace(_of_root([*words, *(word for each in how.sets for word in ("--set", each))]), label=str(path))


def case_of_words(flag: str, text: str) -> AskedCase:
    """The case of a command: ``--pd --set x=1``, or ``predict "vllm serve ..." --rate 5``.

    Raises a ``KvsimError``, or the command-line library's usage errors, for what that command would not run.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise FlagError(f"{flag} is {text!r}: {str(error).lower()}") from error
    words = words[1:] if words[:1] == ["kvsim"] else words
    if words[:1] == [PREDICT]:
        return replace(_of_predict(flag, words[1:]), label=" ".join(text.split()))
    return replace(_of_root(words, flag), label=" ".join(text.split()) or "the single node")


def _of_root(words: list[str], flag: str | None = None) -> AskedCase:
    from kvsim.cli.described import check_flags, command_of
    from kvsim.cli.flags import Flags, taking_flags
    from kvsim.cli.run import spec_of
    from kvsim.difference.asked import AskedCase
    from kvsim.modes.experiment import Variant
    from kvsim.plan.mode import MODES

    @taking_flags
    def root(ctx: typer.Context, flags: Flags) -> int:
        return 0

    values, given, rest = _parsed(root, words)
    _refuse_rest(flag, rest)
    _refuse(flag, given)
    flags = Flags(**{field.name: values[field.name] for field in fields(Flags)})
    check_flags(flags, given)
    command = command_of(flags, given)
    mode = MODES[command.mode]
    loaded = command.layers.load(mode.name)
    spec = spec_of(command, mode, loaded, ())
    if not mode.is_pd and command.policy is None:
        spec = replace(spec, variants=[Variant("configured", "unified", loaded.config)])
    return AskedCase("", spec)


def _of_predict(flag: str, words: list[str]) -> AskedCase:
    from kvsim.cli.predict import PredictFlags, predict, slo_sets, spec_of
    from kvsim.difference.asked import AskedCase
    from kvsim.plan.deployment import launch_of, load_deployment

    values, given, rest = _parsed(predict, words)
    _refuse_rest(flag, rest)
    _refuse(flag, given)
    flags = PredictFlags(**{field.name: values[field.name] for field in fields(PredictFlags)})
    if flags.rate is not None and flags.concurrency is not None:
        raise FlagError("--rate and --concurrency exclude each other; give one")
    seed = () if flags.seed is None else (f"seed={flags.seed}",)
    loaded = load_deployment(
        launch_of(flags.line, flags.engine_args),
        gpu=flags.gpu,
        instances=flags.instances,
        profile=flags.calibration_profile,
        sets=(*slo_sets(flags.slo), *(flags.set_ or ()), *seed),
    )
    return AskedCase("", spec_of(loaded, flags, keeps_detail=False).run)


def _parsed(function: Any, words: list[str]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Values of all parameters of a command's function, the flags that were given, and words that are no flags."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(context_settings={"help_option_names": ["--help", "-h"], "allow_extra_args": True})(function)
    command: Any = typer.main.get_command(app)
    with command.make_context("kvsim", list(words)) as context:
        return dict(context.params), flags_given(context), list(context.args)


def _refuse_rest(flag: str | None, words: list[str]) -> None:
    if words:
        raise FlagError(f"{flag}: {words[0]!r} is no flag of a run; '{PREDICT}' is the one verb that describes a case")


def _refuse(flag: str | None, given: Mapping[str, str]) -> None:
    for name, spelling in given.items():
        if name in _NO_CASE:
            raise FlagError(f"{flag}: {spelling} says nothing of a case; it goes beside {flag}, or nowhere")
