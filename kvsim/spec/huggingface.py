"""Models as their ``config.json`` describes them: of a file, of a checkout, and of each entry of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kvsim.errors import ConfigError
from kvsim.spec.attention import attention_params, head_dim_of, window_of
from kvsim.spec.config_keys import FILE, ConfigKeys, read_json
from kvsim.spec.families import ADAPTS_VOCABULARY, FAMILIES, JOINT_EXPERT_GATES, UNMODELLED, UNMODELLED_KEYS, Family
from kvsim.spec.feed_forward import FeedForward, feed_forward_of
from kvsim.spec.max_length import longest_of, max_length_of
from kvsim.spec.model import ModelSpec
from kvsim.spec.quantisation import Stored, stored_as

MOST_LAYERS = 10_000
QUANTISATION_FILE = "hf_quant_config.json"
"""Beside a ``config.json``, where ModelOpt says what it quantised."""


def read_model_config(path: Path) -> ModelSpec:
    """The model that a Hugging Face ``config.json``, or the folder that has one, describes.

    Parameters are counted from the shapes (:func:`model_of`). Raises ``ConfigError`` (file, key, value, what is
    allowed), also for kinds of models that a ``ModelSpec`` cannot tell rightly.
    """
    path = path / FILE if path.is_dir() else path
    values = read_json(path)
    beside = path.with_name(QUANTISATION_FILE)
    if "quantization_config" not in values and path.name == FILE and beside.is_file():
        values = {**values, "quantization_config": read_json(beside)}
    given = values.get("_name_or_path")
    own = path.resolve().parent.name if path.name == FILE else path.stem
    return model_of(values, given if isinstance(given, str) and given else own or path.stem, path.name)


def model_of(values: Mapping[str, Any], name: str, where: str) -> ModelSpec:
    """The model of these keys of a ``config.json``, which stand in ``where``.

    Of a model that sees as well, the text part. Everything that a token passes is counted: embedding, output
    projection, attention, MLPs or experts, biases and norms. Raises ``ConfigError``.
    """
    text, note = _text_of(ConfigKeys(values, where))
    family = _family_of(text)
    keys = ConfigKeys(family.named(text.values), where)
    quantised = next((each for each in (values, text.values) if each.get("quantization_config")), values)
    stored = stored_as(ConfigKeys(quantised, where), _torch_dtype(values, text.values))
    layers = keys.count("num_hidden_layers", most=MOST_LAYERS)
    hidden, vocab = keys.count("hidden_size"), keys.count("vocab_size")
    tied = keys.flag("tie_word_embeddings", bool(values.get("tie_word_embeddings", False)))
    feed_forward, heads = feed_forward_of(keys, family, layers, hidden), keys.count("num_attention_heads")
    window = window_of(keys, family, layers)
    model = ModelSpec(
        name=name,
        params=1.0,
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=_kv_heads(keys, heads, feed_forward),
        head_dim=head_dim_of(keys, hidden, heads),
        intermediate_size=feed_forward.dense_size,
        vocab_size=vocab,
        qk_norm=family.has_qk_norm(keys.values),
        num_experts=feed_forward.experts,
        experts_per_token=feed_forward.per_token,
        expert_intermediate_size=feed_forward.expert_size,
        num_shared_experts=feed_forward.shared,
        num_dense_layers=layers - feed_forward.moe_layers if feed_forward.experts else 0,
        sliding_window_tokens=window.tokens,
        num_window_layers=window.layers,
        window_is_chunk=window.is_chunk,
        kv_lora_rank=keys.count("kv_lora_rank", 0),
        q_lora_rank=keys.count("q_lora_rank", 0),
        rope_head_dim=keys.count("qk_rope_head_dim", 0),
        max_position_embeddings=max_length_of(keys),
        longest_tokens=longest_of(keys),
        num_kv_layers=feed_forward.attention_layers if feed_forward.attention_layers < layers else 0,
        tied_embeddings=tied,
        mlp_matrices=family.mlp_matrices,
        adapts_vocabulary=keys.text("model_type") in ADAPTS_VOCABULARY,
        joint_expert_gates=keys.text("model_type") in JOINT_EXPERT_GATES,
        note=note,
    )
    return _with_weights(model, keys, family, feed_forward, stored)


def _text_of(keys: ConfigKeys) -> tuple[ConfigKeys, str]:
    """The keys that describe what writes text, and what is left out beside them."""
    _refuse_unmodelled(keys)
    inner = keys.table("text_config")
    if not inner:
        return keys, ""
    kind = keys.text("model_type")
    inner = {"model_type": _TEXT_KINDS.get(kind, f"{kind}_text"), **inner}
    text = ConfigKeys(inner, f"{keys.where}: text_config")
    _refuse_unmodelled(text)
    seen = "vision_config" in keys.values or "audio_config" in keys.values
    return text, "its text part; what sees or hears beside it is left out" if seen else ""


_TEXT_KINDS = {"mistral3": "mistral", "llava": "llama", "llava_next": "llama", "kimi_k25": "kimi_k2"}
"""What the text part is where it does not say so."""


def _refuse_unmodelled(keys: ConfigKeys) -> None:
    kind = keys.text("model_type")
    reason = UNMODELLED.get(kind)
    found = next((key for key in UNMODELLED_KEYS if keys.values.get(key) not in (None, False, 0, [], {})), None)
    if reason is not None:
        raise ConfigError(f"{keys.where}: model_type '{kind}' is not modelled: {reason}")
    if found is not None:
        raise ConfigError(f"{keys.where}: a model with '{found}' is not modelled: {UNMODELLED_KEYS[found]}")


def _family_of(keys: ConfigKeys) -> Family:
    kind = keys.text("model_type")
    if not kind:
        raise ConfigError(f"{keys.where}: no key 'model_type'; a model's {FILE} has it")
    family = FAMILIES.get(kind.lower())
    if family is None:
        close = get_close_matches(kind, FAMILIES, n=1, cutoff=0.75)
        advice = (
            f"did you mean '{close[0]}'?" if close else "one whose layers are built as Llama's can be called 'llama'"
        )
        raise ConfigError(f"{keys.where}: model_type '{kind}' is not known; {advice}")
    return family


def _torch_dtype(*tables: Mapping[str, Any]) -> str:
    found = (values.get(key) for values in tables for key in ("torch_dtype", "dtype"))
    return next((str(value) for value in found if value is not None), "bfloat16")


def _kv_heads(keys: ConfigKeys, heads: int, feed_forward: FeedForward) -> int:
    kv_heads = feed_forward.kv_heads or keys.count("num_key_value_heads", heads)
    if keys.values.get("multi_query") is True and not keys.flag("new_decoder_architecture"):
        kv_heads = 1  # whatever the file says (Falcon)
    if heads % kv_heads:
        raise keys.error("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads, {heads}")
    return kv_heads


def _with_weights(
    model: ModelSpec, keys: ConfigKeys, family: Family, feed_forward: FeedForward, stored: Stored
) -> ModelSpec:
    """``model`` with its parameters, and the types in which they are held."""
    matrices, small = attention_params(keys, family, model)
    parts = {
        "attention": matrices * model.attention_layers,
        "dense": feed_forward.dense_params,
        "shared": feed_forward.shared_params,
    }
    always = _outside_layers(model, family) + small * model.attention_layers + feed_forward.small_params
    always += model.num_layers * family.norms_of(keys.values) * model.hidden_size * (2 if family.norm_bias else 1)
    kept = {part: stored.kept_share(part, model.num_layers) * params for part, params in parts.items()}
    others = always + sum(parts.values())
    unquantised = always + sum(kept.values())
    counted = replace(model, params=float(others + model.expert_params), unquantised_params=float(unquantised))
    return _typed(counted, stored, others_kept=unquantised >= others)


def _outside_layers(model: ModelSpec, family: Family) -> int:
    """Embedding, output projection and last norm."""
    matrices = model.hidden_size * model.vocab_size * (1 if model.tied_embeddings else 2)
    norm = model.hidden_size * (2 if family.norm_bias else 1)
    return matrices + norm + (model.vocab_size if family.head_bias else 0)


def _typed(model: ModelSpec, stored: Stored, *, others_kept: bool) -> ModelSpec:
    """``others_kept``: nothing but the routed experts is quantised."""
    if stored.quantised is None:
        return replace(model, weight_dtype=stored.dtype)
    others = stored.dtype if others_kept else stored.quantised
    experts = stored.dtype if stored.kept_share("experts", model.num_layers) > 0.5 else stored.quantised
    own = experts if model.is_moe and experts != others else None
    return replace(model, weight_dtype=others, expert_weight_dtype=own, kv_dtype=stored.kv_dtype)
