"""What a run does not model of what it is asked for, in sentences for its report."""

from __future__ import annotations

from kvsim.config import Config
from kvsim.plan.acceptance import PUBLISHED
from kvsim.plan.engine_settings import HIDDEN_STATE_METHODS
from kvsim.plan.plan import Plan
from kvsim.plan.speculation import name_of_published
from kvsim.spec import BYTES_PER_VALUE, MODELS, find_model


def left_out(plan: Plan, *, is_pd: bool = False) -> tuple[str, ...]:
    """Each where it applies. ``is_pd``: prefill/decode separation is among what is run."""
    found = (
        _note(plan),
        _refused(plan),
        _window(plan),
        _drafts_and_tiers(plan),
        _weights(plan),
        _static(plan) if is_pd else None,
        *unmodelled(plan.config),
    )
    return tuple(sentence for sentence in found if sentence is not None)


def unmodelled(config: Config) -> list[str]:
    """What the configuration alone tells. Raises ``ConfigError`` for an unknown model."""
    return [*_experts(config), *_acceptance(config), *_drafts(config)]


def _drafts(config: Config) -> list[str]:
    """Engines free what lies before a window beside drafts, too."""
    model, is_off = find_model(config.model.name), config.engine.disable_hybrid_kv_cache_manager
    if config.engine.speculative.method is None or is_off or not model.sliding_window_tokens:
        return []
    return [
        f"{model.name}: beside drafts every layer keeps every token here, in a KV cache of as many tokens as vLLM has "
        "without its hybrid KV cache manager; vLLM frees what lies before the window of some layers"
    ]


def _acceptance(config: Config) -> list[str]:
    """How often drafts are accepted decides most, and nobody has said it of this model and this text."""
    given = config.engine.speculative
    if given.method is None or given.acceptance:
        return []
    name = name_of_published(config)
    published = PUBLISHED[name]
    return [
        f"engine.speculative.acceptance is not given: drafts are accepted as published for {name} "
        f"({published.measured_on}; {published.source}); on other texts, models and heads it is another"
    ]


def _experts(config: Config) -> list[str]:
    engine = config.engine
    if engine.data_parallel_size == 1 or not engine.enable_expert_parallel or not find_model(config.model.name).is_moe:
        return []
    return [
        f"engine.enable_expert_parallel with engine.data_parallel_size = {engine.data_parallel_size}: engines that "
        "share experts take their steps together, an idle one too; here each takes its own, which is too fast "
        "where their loads differ"
    ]


def _note(plan: Plan) -> str | None:
    """What a ``ModelSpec`` leaves out of the model, or takes for something else."""
    model = plan.spec.model
    return f"{model.name}: {model.note}" if model.note else None


def _refused(plan: Plan) -> str | None:
    """A server whose KV cache cannot hold one request of the longest length does not start."""
    tokens, spec = plan.config.model.max_model_len, plan.spec
    if plan.config.engine.num_gpu_blocks_override is not None or spec.max_concurrency(tokens) >= 1:
        return None
    held = spec.num_blocks * spec.block_size_tokens
    return (
        f"vLLM does not start such a server: its KV cache of {held:,} tokens cannot hold one request of max_model_len "
        f"= {tokens:,}; --max-model-len can be what it holds. Here shorter requests are served"
    )


def _window(plan: Plan) -> str | None:
    """Where layers with a window would free what lies before it, and do not."""
    model, config = plan.spec.model, plan.config
    tokens = config.model.max_model_len
    if plan.spec.kv_groups is None or plan.colocated_settings.kv_groups:
        return None
    if not model.sliding_window_tokens or tokens <= model.sliding_window_tokens:
        return None
    dtype = plan.spec.kv_dtype
    times = model.kv_bytes_per_token(dtype) * tokens / model.kv_bytes_of_sequence(tokens, dtype)
    nearest = plan.colocated.nearest
    is_measured = config.steptime.method != "roofline" if nearest is None else nearest.level == "measured"
    known = "step times are as measured" if is_measured else "step times count that"
    return (
        f"{model.name}: in {model.num_window_layers} of {model.num_layers} layers a token looks back "
        f"{model.sliding_window_tokens:,} tokens; {known}; beside {'tiers' if plan.tiers else 'a radix tree'} the KV "
        f"cache is as large as engines have it for requests of {tokens:,} tokens that free what lies before the "
        "window, and shorter ones are taken for as thrifty; transfers and tiers keep every token in all layers, "
        f"{times:.2f} times as much"
    )


def _drafts_and_tiers(plan: Plan) -> str | None:
    """A drafter that reads hidden states needs those of the last tokens before the ones that are computed."""
    method = plan.config.engine.speculative.method
    if method not in HIDDEN_STATE_METHODS or plan.config.cache.connector != "offloading" or not plan.tiers:
        return None
    return (
        f"engine.speculative.method = {method}: of what is found in host memory vLLM computes the last chunk again; "
        "here it is loaded"
    )


def _weights(plan: Plan) -> str | None:
    """A checkpoint says in which type its weights are stored; what counts is configured."""
    name, stored, dtype = plan.config.model.name, plan.spec.model.weight_dtype, plan.spec.weight_dtype
    if name in MODELS or BYTES_PER_VALUE[stored] == BYTES_PER_VALUE[dtype]:
        return None
    named = name.rpartition("/")[2]
    return f"{named}: its weights are stored as {stored}; model.weight_dtype = {dtype} is what was simulated"


def _static(plan: Plan) -> str | None:
    if plan.config.engine.batching != "static":
        return None
    return "engine.batching = static holds for unified instances; PD's decode instances let requests join at any step"
