"""The model that the files of load clients name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvsim.errors import ConfigError
from kvsim.spec import ModelSpec, find_model, known_model
from kvsim.validate.clients.result import ClientResult


def named_model(loads: Sequence[ClientResult]) -> ClientResult:
    """The first load whose file names a model that is known here.

    Raises ``ConfigError`` where none does, and where others name another: whoever asks has to say which.
    """
    known = [load for load in loads if load.model is not None and known_model(load.model) is not None]
    if not known:
        strange = next((load for load in loads if load.model), None)
        said = "RESULTS name no model"
        if strange is not None:
            said = f"{strange.name} names the model {strange.model}, which is not known here"
        raise ConfigError(f"{said}; --model MODEL says it: a known one, a Hugging Face id or a config.json")
    first = known[0]
    other = next((load for load in known if _served(load) != _served(first)), None)
    if other is not None:
        both = f"{first.name} names {first.model} and {other.name} names {other.model}"
        raise ConfigError(f"{both}; --model says which one is to be predicted, or give one after the other")
    return first


def _served(load: ClientResult) -> ModelSpec:
    return replace(find_model(load.model or ""), hf_id="", note="")
