"""docs/launch.md has every flag, as the tables have it. ``python tests/launch/test_launch_page.py`` writes it anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from launch_recipes import SGLANG_RECIPES, VLLM_RECIPES

from kvsim.launch.flags import NOT_SIMULATED, Engine, Flag, Kind, flags_of

PAGE = Path(__file__).parents[2] / "docs" / "launch.md"
MARKS: dict[str, Engine] = {"vLLM": "vllm", "SGLang": "sglang"}


def section(engine: Engine) -> str:
    """What the page says of the flags of one server."""
    present = [flag for flag in flags_of(engine) if not flag.is_gone]
    gone = [flag for flag in flags_of(engine) if flag.is_gone]
    simulated = [flag for flag in present if flag.role == "simulated"]
    missing: dict[str, list[Flag]] = {}
    for flag in present:
        if flag.role.startswith(NOT_SIMULATED):
            missing.setdefault(flag.role.removeprefix(NOT_SIMULATED), []).append(flag)
    return "\n".join(
        (
            "| simulated | takes | sets |",
            "|---|---|---|",
            *(f"| {names(flag)} | {takes(flag.kind)} | {flag.words}{beyond(flag)} |" for flag in simulated),
            "",
            "| not simulated | by |",
            "|---|---|",
            *(f"| {what} | {', '.join(map(unless, flags))} |" for what, flags in missing.items()),
            "",
            f"Choices of kernels: {listed([flag for flag in present if flag.role == 'kernels'])}.",
            "",
            f"Without effect on what is simulated: {listed([flag for flag in present if flag.role == 'unchanged'])}.",
            "",
            f"Of older versions: {listed(gone)}.",
        )
    )


def names(flag: Flag) -> str:
    return " ".join(f"`{name}`" for name in flag.names)


def takes(kind: Kind) -> str:
    words = {
        "flag": "on, or off as `--no-…`",
        "switch": "on",
        "size": "a number, 4k or 4K",
        "si": "a number, 4k or 4Ki",
        "config": "JSON",
    }
    length = "a number, 4k, 4K or auto"
    plain = words | {"int": "a whole number", "float": "a number", "text": "text", "length": length, "json": "JSON"}
    many = {"+": ", or several", "*": ", or several"}.get(kind.many, "")
    return (f"one of {len(kind.choices)} words" if len(kind.choices) > 6 else ", ".join(kind.choices)) or (
        plain[kind.base] + many
    )


def beyond(flag: Flag) -> str:
    return f"; not beyond {', '.join(flag.neutral)}" if flag.neutral else ""


def unless(flag: Flag) -> str:
    """At its neutral value a flag changes nothing; ``true``: only where it is switched off."""
    if flag.neutral == ("true",):
        return f"`--no-{flag.name.removeprefix('--')}`"
    return f"`{flag.name}`" + (f" (but {', '.join(flag.neutral)})" if flag.neutral else "")


def listed(flags: Sequence[Flag]) -> str:
    return ", ".join(f"`{flag.name}`" for flag in flags)


def sources() -> str:
    every = dict.fromkeys(recipe.source for recipe in (*VLLM_RECIPES, *SGLANG_RECIPES))
    return "\n".join(f"- <{source}>" for source in every)


def written(text: str) -> str:
    """The page with its parts that are made from the tables made anew."""
    parts = {mark: section(engine) for mark, engine in MARKS.items()} | {"Sources": sources()}
    for mark, part in parts.items():
        pattern = rf"(<!-- {mark} -->\n)(.*?)(\n<!-- end -->)"
        text = re.sub(pattern, lambda found, part=part: found[1] + part + found[3], text, count=1, flags=re.DOTALL)
    return text


def test_the_page_has_what_the_tables_have() -> None:
    text = PAGE.read_text("utf-8")
    assert text == written(text), "run: python tests/launch/test_launch_page.py"
    for engine in MARKS.values():
        assert all(f"`{flag.name}`" in text or f"`--no-{flag.name[2:]}`" in text for flag in flags_of(engine))


def test_each_simulated_flag_says_what_it_sets() -> None:
    for engine in MARKS.values():
        assert all(flag.words for flag in flags_of(engine) if flag.role == "simulated")


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
