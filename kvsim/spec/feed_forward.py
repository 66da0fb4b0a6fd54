"""What stands between a model's attention layers: MLPs, experts, or layers of several sizes."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec.config_keys import ConfigKeys
from kvsim.spec.families import Family

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_PER_TOKEN = ("num_experts_per_tok", "experts_per_token")


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Sizes of the layers, and the parameters of all of them but the routed experts'."""

    dense_size: int
    """Width of a dense layer's MLP; of several, the widest."""
    dense_params: int
    small_params: int = 0
    """Routers and biases."""
    experts: int = 0
    per_token: int = 0
    expert_size: int = 0
    shared: int = 0
    shared_params: int = 0
    moe_layers: int = 0
    attention_layers: int = 0
    kv_heads: int = 0
    """Where the layers say it; else 0."""


def feed_forward_of(keys: ConfigKeys, family: Family, layers: int, hidden: int) -> FeedForward:
    """Raises ``ConfigError``."""
    if keys.values.get("block_configs") is not None:
        return _blocks(keys, layers, hidden)
    experts = keys.any_count(_EXPERTS)
    intermediate = _dense_size(keys, hidden)
    if experts < 2:
        biases = (family.mlp_matrices - 1) * intermediate + hidden if family.says(family.mlp_bias, keys.values) else 0
        params = family.mlp_matrices * hidden * intermediate
        return FeedForward(intermediate, layers * params, layers * biases, attention_layers=layers)
    return _experts(keys, family, experts, layers, hidden)


def _dense_size(keys: ConfigKeys, hidden: int) -> int:
    """Four times the model's width where a family without gates does not say it (Falcon)."""
    default = 4 * hidden if "new_decoder_architecture" in keys.values or "multi_query" in keys.values else None
    return keys.count("intermediate_size", default)


def _experts(keys: ConfigKeys, family: Family, experts: int, layers: int, hidden: int) -> FeedForward:
    per_token = keys.any_count(_PER_TOKEN)
    if not 1 <= per_token <= experts:
        raise keys.error("num_experts_per_tok", per_token, f"1 to {experts}, the experts of a layer")
    size = keys.count("moe_intermediate_size", keys.count("intermediate_size"))
    dense_size = keys.count("intermediate_size_mlp", keys.count("intermediate_size"))
    shared, shared_size = _shared(keys, size)
    moe_layers = sum(_is_sparse(keys, layer) for layer in range(layers))
    biased = family.says(family.mlp_bias, keys.values)
    router = experts * hidden + (experts if keys.values.get("scoring_func") == "sigmoid" or biased else 0)
    biases = experts * (2 * size + hidden) if biased else 0
    return FeedForward(
        dense_size=dense_size,
        dense_params=(layers - moe_layers) * 3 * hidden * dense_size,
        small_params=moe_layers * (router + biases),
        experts=experts,
        per_token=per_token,
        expert_size=size,
        shared=shared,
        shared_params=moe_layers * 3 * hidden * shared_size,
        moe_layers=moe_layers,
        attention_layers=layers,
    )


def _shared(keys: ConfigKeys, expert_size: int) -> tuple[int, int]:
    """Experts of a layer that every token goes through, and their width together."""
    own = keys.count("shared_expert_intermediate_size", 0, least=0) or keys.count(
        "shared_intermediate_size", 0, least=0
    )
    if own:
        return 1, own
    if "intermediate_size_mlp" in keys.values:  # Llama 4: one beside its routed experts, as wide as one of them
        return 1, expert_size
    count = keys.count("n_shared_experts", 0, least=0)
    return count, count * expert_size


def _is_sparse(keys: ConfigKeys, layer: int) -> bool:
    """Whether a layer of a mixture of experts has some."""
    listed = keys.items("moe_layers")
    if listed:
        return layer in listed
    if layer in keys.items("mlp_only_layers"):
        return False
    frequency = keys.values.get("moe_layer_freq")
    if isinstance(frequency, list):
        return layer < len(frequency) and bool(frequency[layer])
    every = keys.any_count(("decoder_sparse_step", "interleave_moe_layer_step"))
    if every > 1:
        return (layer + 1) % every == 0
    return layer >= keys.count("first_k_dense_replace", 0, least=0) and layer % keys.count("moe_layer_freq", 1) == 0


def _blocks(keys: ConfigKeys, layers: int, hidden: int) -> FeedForward:
    """Layers found by a search (Llama-Nemotron): each with its own MLP, some without attention or with a matrix in its
    place. Source: ``DeciLM`` of vLLM 0.32 and of the checkpoints."""
    heads, sizes, matrices, groups = keys.count("num_attention_heads"), [], 0, []
    for block in keys.items("block_configs", layers):
        inner = block if isinstance(block, dict) else {}
        where = f"{keys.where}: block_configs"
        attention = ConfigKeys(ConfigKeys(inner, where).table("attention"), where)
        mlp = ConfigKeys(ConfigKeys(inner, where).table("ffn"), where)
        if attention.flag("replace_with_linear"):
            matrices += hidden * hidden
        elif not attention.flag("no_op"):
            groups.append(attention.count("n_heads_in_group"))
        if mlp.flag("replace_with_linear"):
            matrices += hidden * hidden
        elif not mlp.flag("no_op"):
            sizes.append(_block_size(mlp, hidden))
    if len(set(groups)) != 1:
        raise keys.error("block_configs n_heads_in_group", sorted(set(groups)), "the same in all layers with attention")
    if heads % groups[0]:
        raise keys.error("block_configs n_heads_in_group", groups[0], f"a divisor of num_attention_heads, {heads}")
    dense = 3 * hidden * sum(sizes) + matrices
    return FeedForward(max(sizes, default=0), dense, attention_layers=len(groups), kv_heads=heads // groups[0])


def _block_size(mlp: ConfigKeys, hidden: int) -> int:
    """Width of an MLP, given or by its multiple: two thirds of it, rounded up to 256."""
    if mlp.values.get("intermediate_size") is not None:
        return mlp.count("intermediate_size")
    multiple = mlp.values.get("ffn_mult")
    if not isinstance(multiple, int | float) or not 0 < multiple < 1000:
        raise mlp.error("ffn_mult", multiple, "a number above 0")
    size = int(2 * multiple * hidden / 3)
    return -(-size // 256) * 256
