"""Designs as files: those that kvsim ships by name, anybody's by path; every fault is a line with file and key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvsim.config.findings import finding
from kvsim.config.yaml_source import named, read_mapping, shown
from kvsim.content import content_path
from kvsim.errors import ConfigError, KvsimError, nearest
from kvsim.lab.kv.design import VARIED, Design
from kvsim.lab.kv.families import find_family
from kvsim.launch import read_launch_line

FOLDER = Path("experiments", "lab")
SUFFIXES = (".yaml", ".yml")
_NUMBERS = dict.fromkeys(VARIED, int) | {
    "rate_per_s": float,
    "gpu_memory_utilization": float,
    "kv_budget_gb": float,
}
OF_SERVER = ("gpu_memory_utilization", "kv_budget_gb", "max_num_batched_tokens", "max_num_seqs", "block_size")
"""What is varied by flags of the server, and no field of the design."""


@dataclass(frozen=True, kw_only=True)
class NamedDesign:
    """A design, and where it is from."""

    name: str
    where: str
    """The file, for messages."""
    design: Design

    def changed(self, **fields: Any) -> NamedDesign:
        """With other values, which are checked as those of a file are; ``None``: as it is."""
        given = {name: value for name, value in fields.items() if value is not None}
        design = checked(as_json(self.design) | given, self.where) if given else self.design
        return NamedDesign(name=self.name, where=self.where, design=design)


def as_json(design: Design) -> dict[str, Any]:
    """A design as its file would have it, with every default."""
    return design.model_dump(mode="json", by_alias=True)


def shipped_folder() -> Path:
    """The designs that come with kvsim: beside the package in a wheel, as in a checkout."""
    packaged = content_path(*FOLDER.parts)
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3].joinpath(*FOLDER.parts)


def names() -> tuple[str, ...]:
    """Names of the designs that come with kvsim."""
    return tuple(sorted(path.stem for path in shipped_folder().glob("*.yaml")))


def read_design(word: str) -> NamedDesign:
    """The design of that name, or in that file. Raises ``ConfigError``: what, where, what is allowed."""
    path = Path(word)
    if not word.endswith(SUFFIXES) and os.sep not in word:
        if word not in names():
            raise ConfigError(f"there is no design '{word}'; {nearest(word, names())}; or the path of a .yaml file")
        path = shipped_folder() / f"{word}.yaml"
    where = named(path) if path.parent != shipped_folder() else str(FOLDER / path.name)
    return NamedDesign(name=path.stem, where=where, design=checked(read_mapping(path), where))


def checked(tree: Mapping[str, Any], where: str) -> Design:
    """A design of these keys. Raises ``ConfigError`` that begins with ``where``."""
    known = [field.alias or name for name, field in Design.model_fields.items()]
    for key in tree:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {shown(key)}; {nearest(str(key), known)}")
    try:
        design = Design.model_validate(dict(tree))
    except ValidationError as invalid:
        raise ConfigError(f"{where}: {_said(invalid)}") from None
    try:
        _check(design)
    except KvsimError as error:
        raise ConfigError(f"{where}: {error}") from None
    return design


def _said(invalid: ValidationError) -> str:
    found = invalid.errors(include_url=False)[0]
    if found["type"] == "extra_forbidden":
        return f"unknown key {'.'.join(map(str, found['loc']))}"
    if found["type"] != "value_error":
        return finding(found)
    inside = ".".join(map(str, found["loc"]))
    return (f"{inside}: " if inside else "") + str(found["msg"]).removeprefix("Value error, ")


def _check(design: Design) -> None:
    find_family(design.family)
    if design.control is not None:
        find_family(design.control, "control")
    launch = read_launch_line(design.server)
    if launch.engine != "vllm":
        raise ConfigError("server: is SGLang's; the arithmetic of hits is vLLM's, allowed: vllm serve MODEL ...")
    if "enable_prefix_caching" in launch.arguments:
        raise ConfigError("server: says itself whether it caches prefixes; each phase says that, leave the flag out")
    if design.cold == "unique_prompts" and design.compare in ("cache", "profile") and design.warm_up == "same":
        raise ConfigError(
            "warm_up: same, with cold: unique_prompts: a cold phase would find its own prompts cached; allowed: none, "
            "neutral"
        )
    if design.vary and design.search is not None:
        raise ConfigError("vary and search: one of both")
    for name, values in design.vary.items():
        _check_varied(design, name, values)


def _check_varied(design: Design, name: str, values: tuple[Any, ...]) -> None:
    if name not in VARIED:
        raise ConfigError(f"vary: unknown name {shown(name)}; {nearest(str(name), VARIED)}")
    wanted = _NUMBERS[name]
    for value in values:
        fits = isinstance(value, int if wanted is int else int | float) and not isinstance(value, bool)
        least = 0 if name == "prefix_tokens" else 1 if wanted is int else None
        if not fits or (value <= 0 if least is None else value < least):
            kind = "numbers > 0" if least is None else f"whole numbers >= {least}"
            raise ConfigError(f"vary.{name} has {shown(value)}; allowed: {kind}")
    if len(set(values)) < len(values):
        raise ConfigError(f"vary.{name} has a value twice")
    both = {"concurrency": design.rate_per_s, "rate_per_s": design.concurrency}.get(name)
    if both is not None or {"concurrency", "rate_per_s"} <= set(design.vary):
        raise ConfigError("concurrency and rate_per_s: one of both")
    if name == "gpu_memory_utilization" and max(values) > 1:
        raise ConfigError(f"vary.{name} has {shown(max(values))}; allowed: numbers > 0 and up to 1")
