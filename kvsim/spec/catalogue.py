"""The models that kvsim knows by name: ``models.json``, whose entries are read as any ``config.json`` is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.content import content_path
from kvsim.errors import ConfigError, nearest
from kvsim.spec.config_keys import FILE
from kvsim.spec.huggingface import model_of, read_model_config
from kvsim.spec.model import ModelSpec

_SUFFIXES = re.compile(
    r"-(instruct|it|hf|chat|base|v0\.\d|\d{4}|fp8|fp8-dynamic|fp8-block|fp8-kv|awq|awq-int4|gptq|gptq-int4|gptq-int8"
    r"|int4|int8|w4a16|w4a16-g128|quantized\.w4a16|w8a8|w8a8-fp8|quantized\.w8a8|bnb-4bit|nvfp4|fp4)$"
)
"""What a name may have behind a model's that changes how its weights are stored, or what it was trained for."""
_QUANTISATIONS: dict[str, dict[str, Any]] = {
    "nvfp4": {"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"},
    "fp4": {"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"},
    "fp8": {"quant_method": "fp8"},
    "int8": {"quant_method": "gptq", "bits": 8},
    "w8a8": {"quant_method": "int8"},
    "awq": {"quant_method": "awq", "bits": 4},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "int4": {"quant_method": "awq", "bits": 4},
    "w4a16": {"quant_method": "gptq", "bits": 4},
    "4bit": {"quant_method": "bitsandbytes", "load_in_4bit": True},
}
"""By a word of such a suffix, the first that is in it."""


class Variant(NamedTuple):
    """Checkpoints of a model whose ``config.json`` differs from the entry's."""

    ids: tuple[str, ...]
    changed: Mapping[str, Any]
    """The keys that do."""
    extra_params: float = 0.0
    note: str = ""


class Entry(NamedTuple):
    """One model of the catalogue."""

    name: str
    ids: tuple[str, ...]
    """Hugging Face ids it answers to; those of ``variants`` come on top."""
    config: Mapping[str, Any]
    variants: tuple[Variant, ...]
    params: float | None
    """As published, where that is not what the shapes have."""
    source: str
    extra_params: float
    note: str

    def spec(self, variant: Variant, hf_id: str) -> ModelSpec:
        """The model as the checkpoint of that id has it."""
        found = model_of({**self.config, **variant.changed}, self.name, f"models.json: {self.name}")
        return replace(
            found,
            params=self.params or found.params,
            extra_params=variant.extra_params or self.extra_params,
            hf_id=hf_id,
            note="; ".join(filter(None, (variant.note or self.note, found.note))),
        )


@cache
def entries() -> dict[str, Entry]:
    """All of ``models.json``, by name."""
    text = content_path("models.json").read_text(encoding="utf-8")
    return {name: _entry(name, given) for name, given in json.loads(text)["models"].items()}


def _entry(name: str, given: dict[str, Any]) -> Entry:
    billions = given.get("params_billions")
    return Entry(
        name=name,
        ids=tuple(given["ids"]),
        config=given["config"],
        variants=tuple(
            Variant(tuple(variant["ids"]), variant["config"], *_beside(variant))
            for variant in given.get("variants", ())
        ),
        params=None if billions is None else billions * 1e9,
        source=given["source"],
        extra_params=_beside(given)[0],
        note=_beside(given)[1],
    )


def _beside(given: Mapping[str, Any]) -> tuple[float, str]:
    """What is loaded beside the model, and the note on it."""
    return given.get("extra_params_billions", 0.0) * 1e9, given.get("note", "")


class _Found(NamedTuple):
    """What a name means."""

    entry: str
    hf_id: str
    variant: Variant


@cache
def _index() -> dict[str, _Found]:
    """By all that a model is called, in small letters: its name, its ids and their ends."""
    found: dict[str, _Found] = {}
    for entry in entries().values():
        own = Variant(entry.ids, {})
        found[entry.name] = _Found(entry.name, entry.ids[0], own)
        for variant in (own, *entry.variants):
            for hf_id in variant.ids:
                meant = _Found(entry.name, hf_id, variant)
                found.setdefault(hf_id.lower(), meant)
                found.setdefault(_tail(hf_id), meant)
    return found


class _Models(Mapping[str, ModelSpec]):
    """The known models by name, each read when it is asked for."""

    def __getitem__(self, name: str) -> ModelSpec:
        return _known_spec(entries()[name].name)

    def __iter__(self) -> Iterator[str]:
        return iter(entries())

    def __len__(self) -> int:
        return len(entries())


MODELS: Mapping[str, ModelSpec] = _Models()


def find_model(name: str) -> ModelSpec:
    """The known model of that name or Hugging Face id, in any letter case, or what a ``config.json`` describes: a file,
    or a folder that has one.

    A folder's name counts where there is no such folder. Raises ``ConfigError`` naming the nearest.
    """
    if name.lower() not in _index():
        path = model_file(name)
        if path is not None:
            return replace(read_model_config(path), hf_id=name)
        if _found(name) is None:
            begun = any(entry.startswith(_tail(name)) for entry in entries())
            known = nearest(_tail(name), entries() if begun else _index())
            hint = known if known.startswith("did") else "`kvsim models` lists those that are known."
            raise ConfigError(
                f"model.name: unknown model '{name}'; {hint} Its {FILE}, or the folder that has one, is taken as well"
            )
    return _known_spec(name)


def known_model(name: str) -> str | None:
    """kvsim's name of it, if there is one; also by its Hugging Face id."""
    found = _found(name)
    return None if found is None else found.entry


def model_file(name: str) -> Path | None:
    """The ``config.json`` that a model's name stands for, where it is a file or a folder with one and no known name."""
    if not name or name.lower() in _index():
        return None
    given = os.path.expanduser(name)
    if name.endswith(".json"):
        return Path(given)
    return Path(given, FILE) if os.path.isfile(os.path.join(given, FILE)) else None


@cache
def _known_spec(name: str) -> ModelSpec:
    found = _found(name)
    if found is None:
        raise KeyError(name)
    return entries()[found.entry].spec(found.variant, found.hf_id)


def _found(name: str) -> _Found | None:
    """By the whole name, else by its end, then by what is left of that without one suffix after the other."""
    index, end = _index(), _tail(name)
    known = index.get(name.lower()) or index.get(end)
    if known is not None:
        return known
    quantisation: dict[str, Any] | None = None
    while (suffix := _SUFFIXES.search(end)) is not None:
        quantisation = quantisation or next((way for word, way in _QUANTISATIONS.items() if word in suffix[1]), None)
        end = end[: suffix.start()]
        if end in index:
            found = index[end]
            changed = {} if quantisation is None else {"quantization_config": quantisation}
            variant = found.variant._replace(changed={**found.variant.changed, **changed})
            return _Found(found.entry, name, variant)
    return None


def _tail(name: str) -> str:
    return name.lower().rstrip("/").rpartition("/")[2].removeprefix("meta-")
