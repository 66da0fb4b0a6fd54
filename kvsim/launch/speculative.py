"""What ``--speculative-config``, or its short forms, asks for, as the keys of ``engine.speculative`` have it.

Source: vLLM 0.32's ``SpeculativeConfig``: how a method is found where none is given, which words are synonyms, and
``rejection_sample_method: synthetic``, which accepts drafts by rates that it is told.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from kvsim.fields import Fields

FLAG = "--speculative-config"
SHORT = {"spec_method": "method", "spec_model": "model", "spec_tokens": "num_speculative_tokens"}
"""Arguments that are one key of it each."""
METHODS = ("ngram", "draft_model", "eagle", "eagle3", "mtp")
MOST_DRAFTS = 64
"""Nobody drafts more tokens at a time."""
OTHERWISE = {
    "parallel_drafting": "drafts that come all at once",
    "num_speculative_tokens_per_batch_size": "a number of drafts by batch size",
    "enable_adaptive_verification": "a number of drafts by their confidence",
}
"""Keys with which steps are not those that are simulated."""
BESIDE = (
    "quantization",
    "max_model_len",
    "kv_cache_dtype",
    "disable_eagle_block_drop",
    "disable_padded_drafter_batch",
    "use_heterogeneous_vocab",
)
"""Keys that change something, and nothing here."""
WITHOUT_EFFECT = (
    "enforce_eager",
    "moe_backend",
    "attention_backend",
    "revision",
    "code_revision",
    "tensor_parallel_size",
    "index_share_for_mtp_iteration",
    "use_local_argmax_reduction",
    "prompt_lookup_max",
    "prompt_lookup_min",
    "draft_sample_method",
    "draft_load_config",
    "suffix_decoding_max_tree_depth",
    "suffix_decoding_max_cached_requests",
    "suffix_decoding_max_spec_factor",
    "suffix_decoding_min_token_prob",
)
SIMULATED = (
    "method",
    "model",
    "num_speculative_tokens",
    "draft_tensor_parallel_size",
    "rejection_sample_method",
    "synthetic_acceptance_rates",
    "synthetic_acceptance_length",
)


def asked_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and values of the configuration, its short forms among them; empty: none."""
    given = arguments.get("speculative_config")
    found = {str(key).replace("-", "_"): value for key, value in given.items()} if isinstance(given, dict) else {}
    return found | {key: arguments[name] for name, key in SHORT.items() if arguments.get(name) is not None}


def method_of(asked: Mapping[str, Any]) -> str:
    """The method by vLLM's present name, ``mtp`` for that of any model; where none is given, by the drafter's name."""
    method, model = asked.get("method"), str(asked.get("model") or "").lower()
    if isinstance(method, str) and method:
        plain = method.strip("[]") if method == "[ngram]" else method
        return "mtp" if plain.endswith("_mtp") else plain
    if model in ("ngram", "[ngram]"):
        return "ngram"
    named = {"eagle-": "eagle", "eagle3": "eagle3", "dflash": "dflash", "dspark": "dspark", "medusa": "medusa"}
    return next((found for part, found in named.items() if part in model), "draft_model")


def warnings_of_speculation(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences on what of it is not simulated."""
    asked = asked_of(arguments)
    if not asked:
        return ()
    method = method_of(asked)
    if method not in METHODS:
        return (_not_modelled(method),)
    if others := [words for key, words in OTHERWISE.items() if asked.get(key)]:
        return (_not_modelled(" and ".join(others)),)
    found = [key for key in BESIDE if asked.get(key)]
    if asked.get("rejection_sample_method") == "block":
        found.append("rejection_sample_method block")
    return (f"not modelled: {', '.join(found)} of {FLAG}",) if found else ()


def _not_modelled(what: str) -> str:
    return f"not modelled: speculative decoding ({FLAG} {what[:40]}); the prediction is of a server without it"


def speculative_keys(arguments: Fields) -> dict[str, Any]:
    """``engine.speculative``'s keys and values; empty where there is none, or none that is simulated.

    Raises ``ConfigError`` on values of the wrong kind, and on keys that vLLM does not know.
    """
    values: Mapping[str, Any] = arguments.values
    given = values.get("speculative_config")
    if given is not None and not isinstance(given, dict):
        raise arguments.error("speculative_config", "must be a JSON object")
    asked = asked_of(values)
    if not asked or any(asked.get(key) for key in OTHERWISE):
        return {}
    own = Fields(arguments.file, asked, "speculative_config.")
    _check_known(own, asked)
    method = method_of(asked)
    if method not in METHODS:
        return {}
    if asked.get("num_speculative_tokens") is None and method != "mtp":
        raise own.error("num_speculative_tokens", "must be given: what a head's own config.json says is not read")
    num_tokens = own.whole("num_speculative_tokens", 1, most=MOST_DRAFTS)
    found: dict[str, Any] = {"method": method, "num_speculative_tokens": num_tokens}
    if method == "draft_model":
        if not isinstance(asked.get("model"), str) or not asked["model"]:
            raise own.error("model", "must name the draft model")
        found["model"] = asked["model"]
    if asked.get("draft_tensor_parallel_size") is not None:
        found["draft_tensor_parallel_size"] = own.whole("draft_tensor_parallel_size")
    if asked.get("rejection_sample_method") == "synthetic":
        found["acceptance"] = _synthetic(own, num_tokens)
    return {f"engine.speculative.{key}": value for key, value in found.items()}


def _check_known(own: Fields, asked: Mapping[str, Any]) -> None:
    known = (*SIMULATED, *OTHERWISE, *BESIDE, *WITHOUT_EFFECT)
    for key in asked:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise own.error(key, f"no such key{f'; did you mean {close[0]!r}?' if close else ''}")


def _synthetic(own: Fields, num_tokens: int) -> list[float]:
    """Shares by position, as they are told or, with the least variance, for a mean number of tokens a step."""
    rates, length = own.get("synthetic_acceptance_rates"), own.get("synthetic_acceptance_length")
    if (rates is None) == (length is None):
        raise own.error(
            "rejection_sample_method", "needs either synthetic_acceptance_rates or synthetic_acceptance_length"
        )
    if rates is not None:
        is_list = isinstance(rates, list) and len(rates) == num_tokens
        if not is_list or not all(type(rate) in (int, float) and 0 <= rate <= 1 for rate in rates):
            raise own.error("synthetic_acceptance_rates", f"must be {num_tokens} numbers from 0 to 1, one a draft")
        return [float(rate) for rate in rates]
    accepted = own.number("synthetic_acceptance_length", num_tokens + 1.0, 1.0) - 1
    return [min(max(accepted - place, 0.0), 1.0) for place in range(num_tokens)]
