"""Speculative decoding of one engine, as the configuration describes it: what its scheduler and its steps need."""

from __future__ import annotations

from dataclasses import replace

from kvsim.config import Config
from kvsim.errors import ConfigError
from kvsim.plan.acceptance import PUBLISHED, published_for
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.engine_settings import Speculation
from kvsim.spec import InstanceSpec, find_model
from kvsim.spec.drafter import DrafterSpec, eagle, eagle3, multi_token_prediction, separate_model
from kvsim.spec.model import ModelSpec
from kvsim.steptime import AffineStepTime, Coefficients, StepTime, roofline
from kvsim.steptime.curves.speculative import SpeculativeStepTime
from kvsim.units import MICRO

KEY = "engine.speculative"


def speculation_of(config: Config) -> Speculation | None:
    """What the scheduler asks, and how often drafts are accepted; ``None``: no speculative decoding."""
    given = config.engine.speculative
    if given.method is None:
        return None
    num_tokens, share = given.num_speculative_tokens, given.proposed_share
    if given.acceptance:
        shares = given.acceptance
        if len(shares) == 1:
            shares = tuple(shares[0] ** (place + 1) for place in range(num_tokens))
        return Speculation(given.method, num_tokens, shares, 1.0 if share is None else share)
    published = PUBLISHED[name_of_published(config)]
    share = published.proposed_share if share is None else share
    return Speculation(given.method, num_tokens, published.of(num_tokens), share)


def name_of_published(config: Config) -> str:
    """Whose acceptances are taken where none are given. Raises ``ConfigError`` for a name that is none of those."""
    given = config.engine.speculative
    assert given.method is not None
    name = given.acceptance_of or published_for(given.method, given.num_speculative_tokens)
    if name not in PUBLISHED:
        raise ConfigError(f"{KEY}.acceptance_of = {name!r:.60}: must be one of {', '.join(PUBLISHED)}")
    return name


def drafter_of(config: Config, model: ModelSpec, degree: int) -> DrafterSpec | None:
    """What drafts for ``model`` on instances of so many GPUs; ``None``: nothing, or nothing on a GPU.

    Raises ``ConfigError`` for an unknown model, and for a degree that vLLM refuses.
    """
    given = config.engine.speculative
    if given.method is None or given.method == "ngram":
        return None
    own_degree = given.draft_tensor_parallel_size or degree
    if own_degree not in (1, degree):
        raise ConfigError(
            f"{KEY}.draft_tensor_parallel_size = {own_degree}: must be 1 or {degree}, the target's degree"
        )
    if given.method == "draft_model":
        assert given.model is not None
        own = _named_model(given.model)
        found = separate_model(own, own.weight_dtype, own_degree)
    elif given.method == "mtp":
        found = multi_token_prediction(model, config.model.weight_dtype, own_degree)
    else:
        found = (eagle if given.method == "eagle" else eagle3)(model, own_degree)
    return found if given.draft_params_billions is None else _with_params(found, given.draft_params_billions * 1e9)


def _named_model(name: str) -> ModelSpec:
    try:
        return find_model(name)
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.name:", f"{KEY}.model:", 1)) from None


def _with_params(drafter: DrafterSpec, params: float) -> DrafterSpec:
    """Another size; what is shared with the target stays so, as far as there is that much."""
    shared = drafter.model.params - drafter.loaded_params
    if params <= drafter.model.expert_params:
        raise ConfigError(
            f"{KEY}.draft_params_billions = {params / 1e9:g}: must be above the "
            f"{drafter.model.expert_params / 1e9:.2f} that the routed experts of {drafter.model.name} have"
        )
    return replace(drafter, model=replace(drafter.model, params=params), loaded_params=max(params - shared, 0.0))


def with_drafting(config: Config, spec: InstanceSpec, target: StepTime) -> StepTime:
    """Step times of an engine that decodes speculatively, whose target's alone are ``target``."""
    speculation = speculation_of(config)
    if speculation is None:
        return target
    drafter = None if spec.drafter is None else _pass_of(config, spec, spec.drafter)
    coefficients = expected(target.coefficients, drafter, speculation.num_tokens)
    sizes = tuple(sorted(config.engine.cudagraph_capture_sizes))
    passes = None if drafter is None else AffineStepTime(drafter, sizes)
    return SpeculativeStepTime(target, passes, speculation.num_tokens, coefficients)


def _pass_of(config: Config, spec: InstanceSpec, drafter: DrafterSpec) -> Coefficients:
    """One pass of the drafter, from data sheets with the roofline's efficiencies."""
    own = replace(
        spec,
        model=drafter.model,
        tensor_parallel=drafter.tensor_parallel,
        weight_dtype=drafter.weight_dtype,
        kv_bytes_per_token_override=None,
        drafter=None,
    )
    efficiencies = replace(
        efficiencies_of(config, own),
        step_overhead_s=config.engine.speculative.pass_overhead_us * MICRO,
        sequence_overhead_s=0.0,
    )
    return roofline(own, efficiencies)


def expected(target: Coefficients, drafter: Coefficients | None, num_tokens: int) -> Coefficients:
    """The formula that comes nearest to a step of the target and the drafter's passes behind it.

    ``drafts_per_seq`` more tokens of each decoding sequence count in the dense time, and have logits. Of the first pass
    reading and computing are added up instead of the longer taken.
    """
    logits_s = num_tokens * target.s_s_per_seq
    found = replace(
        target,
        drafts_per_seq=float(num_tokens),
        decode_s_per_seq=target.decode_s_per_seq + logits_s,
        decode_mixed_s_per_seq=target.decode_mixed_s_per_seq + logits_s,
    )
    if drafter is None:
        return found
    reading_s = num_tokens * (drafter.dense_knots[0][1] if drafter.dense_knots else drafter.w0_s)
    token_s, later = drafter.p1_s_per_token, num_tokens - 1
    return replace(
        found,
        w0_s=target.w0_s + reading_s,
        w1_s_per_token=target.w1_s_per_token + token_s,
        p0_s=target.p0_s + reading_s,
        p1_s_per_token=target.p1_s_per_token + token_s,
        dense_knots=tuple((tokens, time_s + reading_s + token_s * tokens) for tokens, time_s in target.dense_knots),
        a_s_per_kv_token=target.a_s_per_kv_token + num_tokens * drafter.a_s_per_kv_token,
        a_mixed_s_per_kv_token=target.a_mixed_s_per_kv_token
        + drafter.a_mixed_s_per_kv_token
        + later * drafter.a_s_per_kv_token,
        b_s_per_token2=target.b_s_per_token2 + drafter.b_s_per_token2,
        comm0_s=target.comm0_s + num_tokens * drafter.comm0_s,
        comm1_s_per_token=target.comm1_s_per_token + drafter.comm1_s_per_token,
        const_s=target.const_s + num_tokens * drafter.const_s,
    )
