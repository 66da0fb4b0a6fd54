"""The reference: every key, every flag, every profile, model and GPU, made of what the program itself goes by."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from typing import Any

import typer

from kvsim.cli import main
from kvsim.cli.app import app
from kvsim.config.schema import Config
from kvsim.content import content_path
from kvsim.plan.levels import DEGREES, UNFIT, known_levels
from kvsim.spec import MODELS, ModelSpec

KEY = re.compile(r"^( *)([a-z0-9_]+):(?: +([^#]*?))?(?: +# (.*))?$")


def configuration() -> str:
    """Every key of config.yaml with its default, what it may be, and its comment."""
    schema = Config.model_json_schema()
    page = ["# Configuration", ""]
    page += [
        "Every key of `config.yaml`: its default, what it may be, what it is. `--set section.key=value` sets one.",
        "",
    ]
    for path, default, comment in keys(content_path("config.yaml").read_text("utf-8")):
        node = at(schema, path)
        name = ".".join(path)
        if node.get("properties") and default is None:
            page += [
                f"{'#' * (1 + min(len(path), 3))} `{name}`",
                "",
                *([f"{sentence(comment)}", ""] if comment else []),
            ]
            continue
        page += [f"`{name}`", f":   default `{default}`; {allowed(schema, node)}", ""]
        if comment:
            page += [f"    {sentence(comment)}", ""]
    return "\n".join(page)


def keys(text: str) -> Iterator[tuple[tuple[str, ...], str | None, str | None]]:
    """Path, default and comment of each key before the presets; a section has no default."""
    path: list[str] = []
    for line in text.splitlines():
        found = KEY.match(line)
        if found is None:
            continue
        if found[2] == "presets" and not found[1]:
            return
        path[len(found[1]) // 2 :] = [found[2]]
        yield tuple(path), (found[3] or "").strip() or None, found[4]


def at(schema: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """The part of a JSON schema that a key stands for; ``KeyError``: there is no such key."""
    node: Mapping[str, Any] = schema
    for name in path:
        node = resolved(schema, resolved(schema, node)["properties"][name])
    return node


def resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node


RANGES = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


def allowed(schema: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """What a key may be, in words."""
    node = resolved(schema, node)
    if "anyOf" in node:
        return " or ".join(allowed(schema, each) for each in node["anyOf"])
    if "enum" in node or "const" in node:
        return "one of " + ", ".join(f"`{each}`" for each in node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        items = node.get("items") or next(iter(node.get("prefixItems", [])), {})
        return f"a list of: {allowed(schema, items)}"
    if "properties" in node:
        return "a mapping"
    limits = " and ".join(f"{sign} {node[name]:g}" for name, sign in RANGES if name in node)
    return " ".join(filter(None, (KINDS[node["type"]], limits)))


def sentence(text: str) -> str:
    """A comment as Markdown that shows what it says."""
    parts = text.split("`")
    return "`".join(part if place % 2 else re.sub(r"([*_<\[\]])", r"\\\1", part) for place, part in enumerate(parts))


def commands() -> str:
    """Every flag of every verb."""
    page = ["# Commands", "", "`python main.py` in a checkout, `kvsim` once installed."]
    for name, command in verbs(typer.main.get_command(app), "kvsim"):
        page += ["", f"## `{name}`", "", sentence((command.help or "").split("\n\n")[0].replace("\n", " ")), ""]
        context = typer.Context(command)
        for parameter in command.params:
            page += flag(parameter, context)
    return "\n".join(page)


def verbs(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it."""
    yield name, command
    for below, its in getattr(command, "commands", {}).items():
        yield from verbs(its, f"{name} {below}")


def flag(parameter: Any, context: Any) -> list[str]:
    """One flag or argument, as the command's help shows it."""
    if "--help" in parameter.opts:
        return []
    spelled, says = parameter.get_help_record(context)
    return [f"`{spelled}`", f":   {sentence(says)}", ""]


def profiles() -> str:
    """How step times are known: what was measured, and each model on each GPU."""
    page = ["# Profiles", "", "As `kvsim profiles` prints them. [How a profile is made](profile-files.md).", ""]
    page += [*text_of("profiles"), "", "## Every model on every GPU", ""]
    page += [
        "By GPUs an instance. In brackets what differs from the measured instance whose step times are scaled;",
        "roofline: data-sheet arithmetic; `-`: the weights leave no room for KV. `kvsim profiles MODEL` prints one.",
        "",
    ]
    for model in MODELS.values():
        page += [f"### {model.name}", "", *levels(model), ""]
    return "\n".join(page)


def levels(model: ModelSpec) -> Iterator[str]:
    """A table of how a model's step times are known: a row a GPU and type of weights, a column a degree."""
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for known in known_levels(model):
        mark = "-" if known.level == UNFIT else known.level
        if known.level == "scaled":
            mark = f"scaled ({', '.join(known.differences)})"
        rows.setdefault((known.gpu, known.weight_dtype), {})[known.tensor_parallel_size] = mark
    yield f"| GPU | weights | {' | '.join(map(str, DEGREES))} |"
    yield f"|---|---|{'---|' * len(DEGREES)}"
    for (gpu, dtype), marks in rows.items():
        yield f"| {gpu} | {dtype} | {' | '.join(marks[degree] for degree in DEGREES)} |"


def models() -> str:
    """Models and GPUs that are known by name."""
    page = [
        "# Models and GPUs by name",
        "",
        "As `kvsim models` prints them. [What a name is taken for](../models.md).",
        "",
    ]
    return "\n".join([*page, *text_of("models"), ""])


def text_of(*arguments: str) -> list[str]:
    """What the command prints, as a block."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = main(arguments)
    if code:
        raise SystemExit(f"kvsim {' '.join(arguments)}: exit code {code}")
    return ["```text", *(line.rstrip() for line in printed.getvalue().rstrip().splitlines()), "```"]
