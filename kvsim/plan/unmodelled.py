"""What a run does not model of what it is asked for, in sentences for its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from kvsim.config import Config
from kvsim.plan.acceptance import PUBLISHED
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.engine_settings import HIDDEN_STATE_METHODS
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Plan
from kvsim.plan.refused import unlike_servers
from kvsim.plan.sglang_scheduler import left_to_vllm
from kvsim.plan.speculation import name_of_published
from kvsim.plan.vllm_defaults import is_since
from kvsim.plan.weight_types import said_of_types
from kvsim.spec import MODELS, InstanceSpec, find_model
from kvsim.steptime.adapters import adapter_s
from kvsim.units import GB


def left_out(plan: Plan, *, is_pd: bool = False, is_unified: bool = True) -> tuple[str, ...]:
    """Each where it applies. ``is_pd``: prefill/decode separation is among what is run; ``is_unified``: so are unified
    instances."""
    found = (
        _note(plan),
        _refused(plan),
        *unlike_servers(plan.config, plan.spec.model),
        *_undivided(plan),
        _window(plan),
        *_types(plan),
        *_of_kinds(plan, is_pd=is_pd, is_unified=is_unified),
        _drafts_and_tiers(plan),
        _adapters(plan, is_pd=is_pd),
        _static(plan) if is_pd else None,
        *left_to_vllm(plan.config, plan.tiers, is_pd=is_pd),
        _incomplete(plan, is_pd),
        _pipeline(plan),
        *unmodelled(plan.config),
    )
    return tuple(sentence for sentence in found if sentence is not None)


def unmodelled(config: Config) -> list[str]:
    """What the configuration alone tells. Raises ``ConfigError`` for an unknown model."""
    return [*_acceptance(config), *_drafts(config)]


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


def _note(plan: Plan) -> str | None:
    """What a ``ModelSpec`` leaves out of the model, or takes for something else."""
    model = plan.spec.model
    return f"{model.name}: {model.note}" if model.note else None


def _refused(plan: Plan) -> str | None:
    """A server whose KV cache cannot hold one request of the longest length does not start."""
    tokens, spec = plan.config.model.max_model_len, plan.spec
    if plan.config.engine.num_gpu_blocks_override is not None or spec.max_concurrency(tokens) >= 1:
        return None
    cache = f"KV cache of {spec.num_blocks * spec.block_size_tokens:,} tokens"
    if plan.config.cache.prefix_cache == "radix":
        return f"a {cache} cannot hold one request of max_model_len = {tokens:,}; shorter requests are served"
    return (
        f"vLLM does not start such a server: its {cache} cannot hold one request of max_model_len = {tokens:,}; "
        "--max-model-len can be what it holds. Here shorter requests are served"
    )


def _undivided(plan: Plan) -> list[str]:
    """Degrees that the model's heads do not divide among; vLLM's own check, and that of its layers."""
    if plan.config.cache.prefix_cache == "radix":
        return []
    instances = [plan.colocated, *([plan.prefill, plan.decode] if plan.num_prefill else [])]
    return undivided([one.spec for one in instances])


def undivided(specs: Iterable[InstanceSpec]) -> list[str]:
    """A sentence for each of vLLM's instances whose heads do not divide among its GPUs."""
    found: dict[str, None] = {}
    for degree, model in dict.fromkeys((spec.tensor_parallel, spec.model) for spec in specs):
        kv_heads = 1 if model.is_mla else model.num_kv_heads
        if model.num_heads % degree:
            found[f"{model.num_heads} attention heads do not divide among {degree} GPUs"] = None
        elif max(kv_heads, degree) % min(kv_heads, degree):
            found[f"neither do {kv_heads} KV heads divide among {degree} GPUs, nor these among them"] = None
    return [f"vLLM does not start such a server: {words}; here each has its share" for words in found]


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


def _adapters(plan: Plan, *, is_pd: bool) -> str | None:
    """What of LoRA is simulated, and what is not."""
    spec, adapters = plan.spec, plan.spec.adapters
    if adapters is None:
        return None
    step_ms = adapter_s(spec, 1.0, efficiencies_of(plan.config, spec)) * 1e3
    beyond = ""
    if adapters.used > adapters.max_loras:
        limited = plan.colocated_settings.max_loras
        waiting = "requests of others wait, as in vLLM" if limited else "requests of others wait in vLLM, and here not"
        waiting += "; before decode instances none does" if limited and is_pd else ""
        loads = plan.colocated_settings.adapter_loads
        loading = "loading takes no time here"
        if loads is not None:
            loading = f"a load takes {loads.host_s * 1e3:.2g} ms from host memory"
            loading += f" and {loads.disk_s * 1e3:.2g} more from disk"
            loading += ", and decode instances load none" if is_pd else ""
        beyond = f"; of {adapters.used} adapters a step has {adapters.max_loras}: {waiting}; {loading}"
    return (
        f"engine.enable_lora: adapters, {adapters.max_loras} of rank {adapters.max_lora_rank}, take "
        f"{spec.adapter_bytes_per_gpu / GB:.2f} GB a GPU; each request goes through one, which adds {step_ms:.2g} ms "
        f"to a step of one token by bytes, FLOPs and starts of kernels, and was never measured{beyond}"
    )


def _types(plan: Plan) -> list[str]:
    """A checkpoint says in which type its weights are stored; what counts is configured. A known model's own name is no
    checkpoint's."""
    name, spec = plan.config.model.name, plan.spec
    if name in MODELS:
        spec = replace(spec, model=replace(spec.model, weight_dtype=spec.weight_dtype))
    return list(said_of_types(spec, name))


def _of_kinds(plan: Plan, *, is_pd: bool, is_unified: bool) -> Iterator[str]:
    """What is to be known of instances of another kind than the first of unified ones."""
    name, told = plan.config.model.name, {plan.spec.gpu.name}
    roles = (plan.prefill, plan.decode) if is_pd else ()
    for instance in (*(own.colocated for own in plan.by_kind()), *roles):
        gpu = instance.spec.gpu.name
        if gpu in told:
            continue
        told.add(gpu)
        yield from (sentence for sentence in said_of_types(instance.spec, name) if sentence not in _types(plan))
        tokens = plan.config.model.max_model_len
        if plan.config.engine.num_gpu_blocks_override is None and instance.spec.max_concurrency(tokens) < 1:
            room = instance.spec.num_blocks * instance.spec.block_size_tokens
            yield (
                f"vLLM does not start such a server: on {instance.spec.gpus_in_words} a KV cache of {room:,} tokens "
                f"cannot hold one request of max_model_len = {tokens:,}. Here shorter requests are served"
            )
    unified = gpus_of(own.colocated for own in plan.by_kind())
    if is_pd and is_unified and unified != gpus_of(roles):
        prefill, decode = (role.spec.gpu.name for role in roles)
        yield (
            f"PD is on {prefill} for prefill and {decode} for decode, unified on {' and '.join(sorted(unified))}: "
            "about as many GPUs, not the same; compare what they cost, or give both the same ones (cluster.pools)"
        )


def gpus_of(instances: Iterable[Instance]) -> set[str]:
    """The kinds of GPUs that they have."""
    return {instance.spec.gpu.name for instance in instances}


def _static(plan: Plan) -> str | None:
    if plan.config.engine.batching != "static":
        return None
    return "engine.batching = static holds for unified instances; PD's decode instances let requests join at any step"


def _pipeline(plan: Plan) -> str | None:
    """What is known of a pipeline's times."""
    spec, version = plan.spec, plan.config.engine.vllm_version
    if not spec.pipeline_layers:
        return None
    layers = " + ".join(str(count) for count in spec.pipeline_layers)
    older = f"; vLLM {version} is taken to schedule them as 0.32 does" if not is_since(version, (0, 32)) else ""
    return (
        f"engine.pipeline_parallel_size = {spec.pipeline_parallel}: times of stages of {layers} layers are modelled "
        "from those of all layers, and sends from stage to stage from what links carry; neither was held against a "
        f"run{older}"
    )


def _incomplete(plan: Plan, is_pd: bool) -> str | None:
    """Engines that share experts come in whole groups."""
    size = plan.engines_in_step
    counts = {"unified": plan.num_instances}
    if is_pd:
        counts |= {"prefill": plan.num_prefill, "decode": plan.num_decode}
    partial = [f"{name} {count}" for name, count in counts.items() if count % size]
    if not partial:
        return None
    return (
        f"numbers of instances that are no multiple of engine.data_parallel_size = {size} ({', '.join(partial)}): the "
        "last group's experts are on GPUs of engines that are not there, which take part in its steps without requests"
    )
