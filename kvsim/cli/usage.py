"""Mistakes in the use of flags and verbs, as the command-line library finds them, in kvsim's one line."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from kvsim.errors import KvsimError, nearest

if TYPE_CHECKING:
    UsageError = typer.BadParameter
else:
    # Newer versions of Typer bring their own copy of Click, older ones use the installed package; this is the public
    # name that leads to the base of usage errors in both.
    UsageError = typer.BadParameter.__mro__[1]


class FlagError(KvsimError):
    """A flag whose value cannot be used, or flags that contradict each other."""


class Verbs(TyperGroup):
    """A group of commands that answers an unknown one with the nearest it knows."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve as the base class, which is left to find flags that stand where a command is wanted."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise FlagError(f"unknown command '{args[0]}'; {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def flags_given(context: typer.Context) -> dict[str, str]:
    """The flags that the user gave to this command, as parameter name to spelling."""
    parameters: list[Any] = context.command.params
    return {
        parameter.name: parameter.opts[0]
        for parameter in parameters
        if getattr(context.get_parameter_source(parameter.name), "name", None) == "COMMANDLINE"
    }


def explained(error: Any) -> str:
    """What is wrong, and the nearest thing that would not be."""
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        return _unknown_option(option, error.ctx)
    message = " ".join(error.format_message().split())
    return f"{message[:1].lower()}{message[1:]}".rstrip(".")


def _unknown_option(option: str, context: Any) -> str:
    known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
    close = difflib.get_close_matches(option, [*known, "--help"], n=1)
    advice = f"did you mean '{close[0]}'?" if close else f"see {context.command_path} --help"
    return f"unknown option '{option}'; {advice}"
