"""How long a sequence may be where nobody says: vLLM's ``max_model_len`` of a ``config.json``."""

from __future__ import annotations

from typing import Any

from kvsim.spec.config_keys import ConfigKeys

_LENGTHS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
_SCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "default", "mrope")
"""Rotary scalings whose factor the length already has in it, or that have none."""
UNKNOWN_LENGTH = 2048
"""What vLLM takes where no key says it."""


def max_length_of(keys: ConfigKeys) -> int:
    """What a server takes that is told no length: ``longest_of``, and of scalings of LongRoPE what they were scaled
    from."""
    longest = int(_longest(keys) * _factor(keys))
    if any(_kind(scaling) in ("longrope", "su") for scaling in _scalings(keys)):
        return keys.count("original_max_position_embeddings", longest)
    return longest


def longest_of(keys: ConfigKeys) -> int:
    """The longest that may be asked for: the smallest length that the file names, times the factor of its rotary
    scaling; 0: it names none, and any may be.

    A model whose ``model_max_length`` is given has that (Command R). Of LongRoPE, of yarn and of Llama 3 the length has
    the factor already, as Gemma 3's has.
    Source: ``_get_and_verify_max_len`` and ``derive_max_model_len_and_key`` of vLLM 0.32.
    """
    return int(_longest(keys) * _factor(keys)) if _named(keys) else 0


def _named(keys: ConfigKeys) -> list[int]:
    return [keys.count(key) for key in _LENGTHS if keys.values.get(key) is not None]


def _longest(keys: ConfigKeys) -> int:
    return keys.count("model_max_length", min(_named(keys), default=UNKNOWN_LENGTH))


def _factor(keys: ConfigKeys) -> float:
    """The factor of its rotary scaling, where the length has it not in it; else 1."""
    factor = 1.0
    if "gemma3" not in keys.text("model_type"):
        for scaling in _scalings(keys):
            given = scaling.get("factor")
            if _kind(scaling) not in _SCALED and given is not None:
                if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < 1e6:
                    raise keys.error("rope_scaling.factor", given, "a number above 0")
                factor = float(given)
    return factor


def _scalings(keys: ConfigKeys) -> list[dict[str, Any]]:
    """One, or one a kind of layer."""
    given = keys.table("rope_scaling") or keys.table("rope_parameters")
    inner = [value for value in given.values() if isinstance(value, dict)]
    return inner or ([given] if given else [])


def _kind(scaling: dict[str, Any]) -> str:
    return str(scaling.get("rope_type", scaling.get("type", "default")))
