"""Help as a person reads it: names of values rather than types of the program, and no word broken at its hyphen."""

from __future__ import annotations

from typing import Any

HYPHEN = "\N{NON-BREAKING HYPHEN}"
"""Stands for hyphens while lines are broken: ``meta-llama`` stays whole."""


def readable(command: Any) -> Any:
    """``command``, as Typer made it, whose help and whose verbs' help are so."""
    for verb in getattr(command, "commands", {}).values():
        readable(verb)
    written, arguments = command.get_help, []
    command.help = _held(command.help)
    for parameter in command.params:
        parameter.help = _held(parameter.help)
        if parameter.param_type_name == "argument":
            arguments.append(_usage(parameter))
            parameter.display_type_rich = lambda ctx: None
    if arguments:
        command.collect_usage_pieces = lambda ctx: [command.options_metavar, *arguments]
    command.get_help = lambda ctx: written(ctx).replace(HYPHEN, "-")
    return command


def _held(text: str | None) -> str | None:
    return None if text is None else text.replace("-", HYPHEN)


def _usage(argument: Any) -> str:
    several = "..." if argument.nargs != 1 else ""
    return f"{argument.metavar}{several}" if argument.required else f"[{argument.metavar}{several}]"
