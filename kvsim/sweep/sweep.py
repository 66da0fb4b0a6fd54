"""A sweep as its file says it: checked as far as that goes before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvsim.config.findings import finding
from kvsim.config.load import check_value, load_config, preset_names
from kvsim.config.tree import leaves
from kvsim.config.yaml_source import kind, named, read_mapping, shown
from kvsim.errors import ConfigError, KvsimError, nearest
from kvsim.sweep.arguments import ARGUMENTS, OF_MODES, OF_PD, OF_SERVERS, READING, SAME, check_argument, names_file
from kvsim.sweep.files import content_hash
from kvsim.sweep.schema import Range, Sampling, SweepFile

Values = tuple[Any, ...] | Range
OWN = ("keys", "set", "sampling", "samples", "replications", "seed")
"""Keys of the file that are no argument of a run."""


@dataclass(frozen=True)
class Sweep:
    """What is run, and how often."""

    fixed: Mapping[str, Any]
    """Arguments that all runs have."""
    sets: Mapping[str, Any]
    """Keys of the configuration that are the same in all runs."""
    keys: Mapping[str, Values]
    """What differs: values by dotted key or by argument, in the order of the file."""
    sampling: Sampling
    samples: int | None
    replications: int
    seed: int
    files: Mapping[str, str]
    """Sha256 of every file that an argument names, as it is named."""
    folder: Path = field(compare=False)
    """The file's own: what other files are named from."""

    @property
    def says(self) -> dict[str, Any]:
        """All of it as JSON has it, on any machine."""
        keys = {key: one.model_dump() if isinstance(one, Range) else list(one) for key, one in self.keys.items()}
        return {
            "fixed": dict(self.fixed),
            "set": dict(self.sets),
            "keys": keys,
            "sampling": self.sampling,
            "samples": self.samples,
            "replications": self.replications,
            "seed": self.seed,
            "files": dict(self.files),
        }

    @property
    def digest(self) -> str:
        """Which sweep it is, whatever its file is called."""
        return hash_of(self.says)

    def hashed(self, name: str, value: Any) -> Any:
        """``value``, or the hash of the file that it names."""
        return self.files.get(value, value) if isinstance(value, str) and names_file(name, value) else value


def hash_of(says: Any) -> str:
    """Sha256 of JSON, keys in their order."""
    return hashlib.sha256(json.dumps(says, separators=(",", ":")).encode()).hexdigest()


def sweep_of(says: Mapping[str, Any], folder: Path) -> Sweep:
    """The sweep that :attr:`Sweep.says` is of."""
    keys = {key: Range(**one) if isinstance(one, dict) else tuple(one) for key, one in says["keys"].items()}
    rest = {name: says[name] for name in ("fixed", "sampling", "samples", "replications", "seed", "files")}
    return Sweep(**rest, sets=says["set"], keys=keys, folder=folder)


def read_sweep(path: Path) -> Sweep:
    """The sweep in a file. Raises a ``KvsimError``: what, where, what is allowed."""
    where, tree = named(path), read_mapping(path)
    for name in tree:
        if name not in OWN and name not in ARGUMENTS:
            raise ConfigError(f"{where}: unknown key {shown(name)}; {nearest(str(name), (*OWN, *ARGUMENTS))}")
    fixed = {name: value for name, value in tree.items() if name not in OWN}
    try:
        json.dumps(tree)
    except TypeError as error:
        raise ConfigError(f"{where}: has a value that JSON has not: {error}") from None
    try:
        given = SweepFile.model_validate({name: value for name, value in tree.items() if name in OWN})
    except ValidationError as invalid:
        raise ConfigError(f"{where}: {finding(invalid.errors(include_url=False)[0])}") from None
    sets, keys = dict(leaves(given.sets)), _keys(given.keys, where)
    _check_values(fixed, sets, keys, where)
    _check_arguments({*fixed, *keys}, where)
    _check_modes(fixed, keys, where)
    _check_design(given, keys, where)
    folder = path.resolve().parent
    seed = load_config().config.seed if given.seed is None else given.seed
    files = _files(fixed, keys, folder)
    _check_presets(fixed, keys, folder, where)
    return Sweep(fixed, sets, keys, given.sampling, given.samples, given.replications, seed, files, folder)


def _keys(given: Mapping[str, Any], where: str) -> dict[str, Values]:
    if not given:
        raise ConfigError(f"{where}: keys is empty: there is nothing to sweep")
    return {str(key): _values(f"{where}: keys.{key}", values) for key, values in given.items()}


def _values(where: str, given: Any) -> Values:
    if isinstance(given, dict) and given and not set(given) & set(Range.model_fields):
        key = f"{where.rpartition('keys.')[2]}.{next(iter(given))}"
        raise ConfigError(f"{where} holds a mapping; keys are dotted: {key}")
    if isinstance(given, dict):
        try:
            return Range.model_validate(given)
        except ValidationError as invalid:
            found = invalid.errors(include_url=False)[0]
            said = str(found["msg"]).removeprefix("Value error, ") if found["type"] == "value_error" else finding(found)
            raise ConfigError(f"{where}: {said}") from None
    if not isinstance(given, list):
        raise ConfigError(f"{where} holds {kind(given)}; a list of values or {{low: A, high: B}} is wanted")
    if not given:
        raise ConfigError(f"{where} is empty: there is nothing to sweep")
    seen: set[str] = set()
    for value in given:
        # 4.0 is 4, and true is no number.
        text = json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
        if text in seen:
            raise ConfigError(f"{where} has {shown(value)} twice")
        seen.add(text)
    return tuple(given)


def _check_values(fixed: Mapping[str, Any], sets: Mapping[str, Any], keys: Mapping[str, Values], where: str) -> None:
    """Every key and every value for itself."""
    for name, value in fixed.items():
        check_argument(name, value, where)
    for key, value in sets.items():
        _check_key(key, value, f"{where}: set")
    for argument, key in SAME.items():
        if {argument, key} <= {*fixed, *sets, *keys}:
            raise ConfigError(f"{where}: {argument} and {shown(key)} say the same; give one")
    for key, values in keys.items():
        if key in fixed or key in sets:
            raise ConfigError(f"{where}: {shown(key)} stands in keys and beside them; it is the one or the other")
        for value in _ends(values):
            if key in ARGUMENTS:
                check_argument(key, value, f"{where}: keys")
            else:
                _check_key(key, value, f"{where}: keys")


def _ends(values: Values) -> Sequence[Any]:
    if not isinstance(values, Range):
        return values
    return [int(end) if values.integer else end for end in (values.low, values.high)]


def _check_key(key: str, value: Any, where: str) -> None:
    if key == "seed":
        raise ConfigError(f"{where}: every replication has a seed of its own, drawn from the sweep's 'seed'")
    if "." not in key:
        names = nearest(key, ARGUMENTS)
        close = names if names.startswith("did") else "a dotted key of config.yaml is wanted, or an argument of a run"
        raise ConfigError(f"{where}: unknown key {shown(key)}; {close}")
    check_value(key, value, where)


def _check_arguments(given: set[str], where: str) -> None:
    """What goes together, whatever the values are."""
    of_modes, of_servers = [sorted(given & set(names)) for names in (OF_MODES, OF_SERVERS)]
    if ("mode" in given) == ("server" in given):
        what = "exclude each other; give one" if "mode" in given else "are both missing; one says what is run"
        raise ConfigError(f"{where}: mode and server {what}")
    if "server" in given and of_modes:
        raise ConfigError(f"{where}: {of_modes[0]} is of the modes; a server has none")
    if "mode" in given and of_servers:
        raise ConfigError(f"{where}: {of_servers[0]} is of a server; a mode takes gpus")
    if {"workload", "trace"} <= given:
        raise ConfigError(f"{where}: workload and trace exclude each other; give one")
    for name in ("concurrency", "requests"):
        if name in given and "workload" not in given:
            raise ConfigError(f"{where}: {name} needs a workload")
    if "rate" in given and given & {"concurrency", "load"}:
        raise ConfigError(f"{where}: rate excludes concurrency and load; give one")
    reading = sorted(given & set(READING))
    if reading and "trace" not in given:
        raise ConfigError(f"{where}: {reading[0]} needs a trace")


def _check_modes(fixed: Mapping[str, Any], keys: Mapping[str, Values], where: str) -> None:
    """No mode has an argument that it does not take."""
    for mode in _given("mode", fixed, keys):
        for name in ("policy",) if mode == "pd" else OF_PD:
            if name in fixed or name in keys:
                raise ConfigError(f"{where}: {name} is not of the mode {mode}; leave it out there")


def _check_presets(fixed: Mapping[str, Any], keys: Mapping[str, Values], folder: Path, where: str) -> None:
    """Every preset is one of config.yaml's, or of a file's that stands for it."""
    presets, configs = ([*_given(name, fixed, keys)] for name in ("preset", "config"))
    if presets:
        known = {name: None for path in (None, *configs) for name in preset_names(path and folder / path)}
        for preset in presets:
            if preset not in known:
                raise ConfigError(f"{where}: unknown preset {shown(preset)}; {nearest(preset, known)}")


def _given(name: str, fixed: Mapping[str, Any], keys: Mapping[str, Values]) -> Sequence[Any]:
    """The values that an argument has in some run."""
    return [fixed[name]] if name in fixed else _ends(keys[name]) if name in keys else ()


def _check_design(given: SweepFile, keys: Mapping[str, Values], where: str) -> None:
    if given.sampling == "grid":
        if given.samples is not None:
            raise ConfigError(f"{where}: samples = {given.samples}: a grid has all points; random and lhs take it")
        for key, values in keys.items():
            if isinstance(values, Range):
                raise ConfigError(f"{where}: keys.{key} is a range: a grid needs a list; random and lhs take it")
    elif given.samples is None:
        raise ConfigError(f"{where}: samples is missing: how many points sampling {given.sampling} takes")


def _files(fixed: Mapping[str, Any], keys: Mapping[str, Values], folder: Path) -> dict[str, str]:
    everywhere: Iterable[tuple[str, Any]] = (
        *fixed.items(),
        *((key, value) for key, values in keys.items() if not isinstance(values, Range) for value in values),
    )
    found: dict[str, str] = {}
    for name, value in everywhere:
        if name in ARGUMENTS and names_file(name, value) and value not in found:
            try:
                found[value] = content_hash(folder / value)
            except KvsimError as error:
                raise ConfigError(f"{name}: {error}") from None
    return found
