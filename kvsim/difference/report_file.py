"""A report that was written before, read for what was simulated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvsim._version import __version__
from kvsim.capacity.sources import WordSource
from kvsim.difference.asked import AskedCase
from kvsim.errors import ConfigError, KvsimError
from kvsim.modes.experiment import ExperimentSpec, Variant, pd_variants
from kvsim.modes.variants import SINGLE_POLICIES, Layers, policy_variants
from kvsim.plan.mode import MODES, PREDICT, Mode
from kvsim.workload.reading import Reading
from kvsim.workload.traffic import TraceSource
from kvsim.workload.words import word_of

_SECTIONS = ("run", "config", "workload", "results")
"""What every report has."""
_UNSAID = ("configured", "eic on", "eic off")
"""Variants that a mode makes by itself, without a bundle."""


def is_json(path: Path) -> bool:
    """Whether a file is to be read as a report: it is called ``.json``, or begins as a JSON object and is no YAML.

    An empty ``.json`` is a report that was cut off, and not a configuration that sets nothing.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(256).lstrip()[:1] == b"{"
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    return path.suffix == ".json" or (begins and path.suffix not in (".yaml", ".yml"))


def read_report(path: Path) -> AskedCase:
    """The case that a report tells of. Raises ``ConfigError``: no report, one of another version, a trace missing."""
    tree = _tree(path)
    run, facts = tree["run"], tree["workload"]
    if run.get("version") != __version__:
        raise ConfigError(
            f"{path}: written by kvsim {run.get('version')}, this is {__version__}: what it tells of would come out "
            "differently; run it again"
        )
    mode = MODES.get(run.get("mode")) or (PREDICT if run.get("mode") == PREDICT.name else None)
    if mode is None:
        raise ConfigError(f"{path}: mode {run.get('mode')!r} is unknown; known: {', '.join([*MODES, PREDICT.name])}")
    try:
        return _case(path, tree, mode, facts)
    except KvsimError as error:
        raise type(error)(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: no report of kvsim's: {type(error).__name__} at {error}") from error


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: no JSON: {error}") from error
    if isinstance(tree, dict) and isinstance(tree.get("models"), dict) and "cluster" in tree:
        names = ", ".join(map(str, tree["models"]))
        raise ConfigError(f"{path}: the report of several models ({names}); what is compared is of one")
    for name in _SECTIONS:
        if not isinstance(tree, dict) or not isinstance(tree.get(name), list if name == "results" else dict):
            raise ConfigError(f"{path}: no report of kvsim's: it has no section '{name}' (--report-json writes them)")
    if not tree["results"]:
        raise ConfigError(f"{path}: a report without results; nothing can be simulated again")
    return dict(tree)


def _case(path: Path, tree: Mapping[str, Any], mode: Mode, facts: Mapping[str, Any]) -> AskedCase:
    layers = Layers(config=dict(tree["config"]))
    loaded = layers.load(mode.name)
    names = [result["name"] for result in tree["results"]]
    load = facts.get("load")
    spec = ExperimentSpec(
        mode,
        _variants(mode, layers, names),
        _requests(path, facts),
        rate_per_s=None if load else facts.get("asked_requests_per_s"),
        load=load["rho"] if load else None,
        load_of=load["of"] if load and mode.is_pd else None,
        replicas=(facts.get("asked") or {}).get("replicas"),
    )
    found = loaded.config.seed
    if found != tree["run"].get("seed"):
        raise ConfigError(f"its run has seed {tree['run'].get('seed')}, its configuration {found}")
    means = {result["name"]: result["ttft_ms"]["mean"] for result in tree["results"]}
    return AskedCase(str(path), spec, means, facts.get("sha256"))


def _variants(mode: Mode, layers: Layers, names: list[str]) -> list[Variant]:
    loaded = layers.load(mode.name)
    if mode.is_pd:
        return pd_variants(loaded.config, names)
    if mode is PREDICT:
        return [Variant("unified", "unified", loaded.config)]
    bundles = [name for name in names if name not in _UNSAID]
    if mode.name == "cluster" and not bundles:
        return policy_variants(mode, loaded, None, layers)
    own = [Variant(name, "unified", loaded.config) for name in names if name == "configured"]
    found = policy_variants(mode, loaded, ",".join(bundles or SINGLE_POLICIES[:1]), layers) if bundles else []
    return own + found


def _requests(path: Path, facts: Mapping[str, Any]) -> TraceSource | WordSource | None:
    """What was served; ``None``: the mode's own traffic."""
    asked = facts.get("asked")
    if asked is None:
        if facts["format"] != "synthetic":
            source = facts["source"]
            raise ConfigError(f"it does not say how its trace {source!r} was read; write it again with this kvsim")
        return None
    if asked.get("model") is not None:
        raise ConfigError(
            f"it is of one of several models, '{asked['model']}', which served its part of {asked['trace']!r}; such a "
            "part is not dealt again here"
        )
    reading = Reading(**asked["reading"])
    if asked["trace"] is not None:
        return TraceSource(_beside(path, asked["trace"]), reading)
    word = asked["workload"]
    if "/" in word or Path(word).suffix:
        word = str(_beside(path, word)) if "=" not in word else word
    return WordSource(word_of(word, reading), asked["concurrency"], num_requests=asked["requests"])


def _beside(path: Path, named: str) -> Path:
    """The trace where it was, seen from here or from the report's folder."""
    for found in (Path(named), path.parent / named, path.parent / Path(named).name):
        if found.exists():
            return found
    raise ConfigError(f"its trace {named!r} is missing: it is neither here nor in the folder of the report")
