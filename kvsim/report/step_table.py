"""Explanations of steps, for a terminal and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvsim.plan.explained import Explainer, Passed, words
from kvsim.plan.nearest_profile import named
from kvsim.spec import InstanceSpec
from kvsim.spec.weight_types import UNQUANTISED
from kvsim.steptime.batch import Batch
from kvsim.steptime.explain import Explanation, Part
from kvsim.units import GB, MILLI, TERA

COLUMNS = 80
LABELS = {
    "qkv_proj": "QKV", "o_proj": "O projection", "gate_up_proj": "gate, up", "down_proj": "down",
    "other_weights": "other weights", "shared_experts": "shared experts", "lm_head": "LM head",
    "attention_prefill": "attention prefill", "attention_decode": "attention decode", "allreduce": "all-reduce",
    "exchange": "expert exchange", "sequences": "host by sequence", "fixed": "head, launches",
    "layernorm": "layer norms", "qk_norm": "QK norm", "rotary_emb": "rotary", "kv_write": "KV write",
    "act_fn": "activation", "final_layernorm": "last norm", "passes": "norms etc.",
}  # fmt: skip
REASONS = {
    "host": "host time",
    "starts": "starts of kernels",
    "kernels": "kernels below their limits",
    "stragglers": "waiting for the longest context",
    "fixed": "head, sampling and launches",
}
HEAD = f"{'':<17}{'ms':>8}{'GB':>7}{'GFLOP':>9}{'FLOP/B':>7}  {'bound':<7}{'limit':>8}{'%':>5}  known"
"""``limit``: its milliseconds, and the share of it that is reached in percent."""


def step_lines(explainer: Explainer, found: list[Explanation], warnings: Sequence[str] = ()) -> Iterator[str]:
    """The table of each step below a heading; no line is longer than ``COLUMNS``. ``warnings``: sentences on what of
    the server is otherwise here."""
    yield from _heading(explainer, found)
    for warning in warnings:
        yield from _wrapped(f"warning: {warning}")
    for one in found:
        yield ""
        passed = explainer.passed(one.batch)
        time_s = one.time_s if passed is None else passed.alone_s
        yield from _wrapped(f"{_capital(words(one.batch))}: {_ms(time_s).strip()} ms")
        if passed is not None:
            yield from _wrapped(_way(passed, one))
        yield HEAD
        for part in one.parts:
            yield _row(part, "")
            yield from (_row(member, "  ") for member in part.members)
        yield from _wrapped(_conclusion(one))
        for sentence in explainer.unmeasured(one.batch):
            yield from _wrapped(f"Beyond its profile, which was {sentence}: the times go on as they end.")


def _heading(explainer: Explainer, found: list[Explanation]) -> Iterator[str]:
    spec, gpu = explainer.instance.spec, explainer.instance.spec.gpu
    yield from _wrapped(f"{named(spec)}: {_known(explainer)}")
    if not all(one.has_operators for one in found):
        yield from _wrapped(
            "A formula of whole steps has no times of operators: below its parts stand theirs by arithmetic, "
            "as limits alone."
        )
    if explainer.engines_in_step > 1:
        fullest = explainer.fullest
        uneven = f" The experts are those of the GPU that gets {fullest:.2f} times the mean." if fullest > 1 else ""
        yield from _wrapped(
            f"The {explainer.engines_in_step} engines that share experts step together: each of them runs such a step."
            + uneven
        )
    link = f"{gpu.interconnect_bytes_per_s / GB:,.0f} GB/s to its neighbours"
    yield from _wrapped(
        f"GB and GFLOP are one GPU's; limit: ms by its data sheet ({gpu.hbm_bytes_per_s / GB:,.0f} GB/s of memory, "
        f"{_peaks(spec)}, {link}), and the share of it that is reached."
    )


def _peaks(spec: InstanceSpec) -> str:
    """By the types that are computed in, which weights alone in four or eight bits are not."""
    dtypes = (spec.weight_dtype, spec.model.expert_dtype(spec.weight_dtype), UNQUANTISED[0])
    peaks = {spec.gpu.unit_of(dtype): spec.gpu.peak_flops(dtype) / TERA for dtype in dtypes}
    first, *others = (f"{peak:,.0f}{{}} in {unit}" for unit, peak in peaks.items())
    return ", ".join([first.format(" TFLOPS"), *(other.format("") for other in others)])


def _way(passed: Passed, one: Explanation) -> str:
    """Through the stages of a pipeline."""
    stages, sends = (" + ".join(_ms(each) for each in times) for times in (passed.stages_s, passed.sends_s))
    return (
        f"Stages {stages} ms, sends {sends} ms; a full pipeline ends one every {_ms(passed.every_s)} ms. As one stage, "
        f"{_ms(one.time_s)} ms:"
    )


def _known(explainer: Explainer) -> str:
    if explainer.known == "modelled":
        return "step times by the data sheet's arithmetic (roofline)"
    how = "scaled from" if explainer.known == "scaled" else "of"
    form = "tables of operators" if explainer.is_tables else "a formula"
    source = f"profile {explainer.profile}" if explainer.profile is not None else "the configuration"
    return f"step times {how} {source}, {form}"


def _row(part: Part, indent: str) -> str:
    label = indent + LABELS.get(part.name, part.name.replace("_", " "))
    time = "-" if part.time_s is None else _ms(part.time_s)
    gb = _number(part.num_bytes / GB) if part.num_bytes else _number(part.link_bytes / GB)
    intensity = "" if part.intensity is None else _number(part.intensity)
    limit = _ms(part.limit_s) if part.limit_s else ""
    reached = "" if part.reached is None else f"{part.reached * 100:.0f}"
    known = "" if part.time_s is None else part.known
    flops = _number(part.flops / GB)
    return (
        f"{label:<17.17}{time:>8}{gb:>7}{flops:>9}{intensity:>7}  {part.bound:<7}{limit:>8}{reached:>5}  {known}"
    ).rstrip()


def _conclusion(one: Explanation) -> str:
    text = f"{one.time_s / one.limit_s:.2f} x the {_ms(one.limit_s).strip()} ms that its operators take at their limits"
    reasons = [f"{REASONS.get(each.name) or LABELS[each.name]} {_ms(each.time_s).strip()} ms" for each in one.reasons]
    is_lumped = not one.has_operators
    split = " (split by arithmetic)" if is_lumped else ""
    return f"{text}; beyond{split}: {', '.join(reasons)}." if reasons else f"{text}."


def _ms(time_s: float) -> str:
    return _number(time_s / MILLI) or "0"


def _number(value: float) -> str:
    """With three digits or more, empty for nothing."""
    if not value:
        return ""
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, break_long_words=False, break_on_hyphens=False)


def step_report(explainer: Explainer, found: list[Explanation], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Explanations as JSON has them; milliseconds, and bytes and FLOPs of one GPU."""
    return {
        **explainer.instance.spec.identity,
        "known": explainer.known,
        "profile": explainer.profile,
        "warnings": list(warnings),
        "steps": [
            _step(one, list(explainer.unmeasured(one.batch))) | _pipeline(explainer.passed(one.batch)) for one in found
        ],
    }


def _pipeline(passed: Passed | None) -> dict[str, Any]:
    """A step's way through a pipeline; ``time_ms`` beside it is of one stage that has all layers."""
    if passed is None:
        return {}
    return {
        "pipeline": {
            "stages_ms": [each / MILLI for each in passed.stages_s],
            "sends_ms": [each / MILLI for each in passed.sends_s],
            "alone_ms": passed.alone_s / MILLI,
            "every_ms": passed.every_s / MILLI,
        }
    }


def _step(one: Explanation, unmeasured: list[str]) -> dict[str, Any]:
    return {
        **_batch(one.batch),
        "time_ms": one.time_s / MILLI,
        "limit_ms": one.limit_s / MILLI,
        "times_limit": one.time_s / one.limit_s,
        "operators_have_times": one.has_operators,
        "parts": [_part(part) for part in one.parts],
        "beyond_limit_ms": {each.name: each.time_s / MILLI for each in one.reasons},
        "unmeasured": unmeasured,
    }


def _batch(batch: Batch) -> Mapping[str, Any]:
    return {
        "decodes": [{"count": each.count, "context_tokens": each.context_tokens} for each in batch.decodes],
        "prefills": [{"tokens": each.tokens, "prefix_tokens": each.prefix_tokens} for each in batch.chunks],
    }


def _part(part: Part) -> Mapping[str, Any]:
    found = {
        "name": part.name,
        "time_ms": None if part.time_s is None else part.time_s / MILLI,
        "known": part.known,
        "bound": part.bound,
        "calls": None if part.work is None else part.work.calls,
        "bytes": part.num_bytes,
        "flops": part.flops,
        "link_bytes": part.link_bytes,
        "flops_per_byte": part.intensity,
        "limit_ms": part.limit_s / MILLI,
        "reached": part.reached,
    }
    return found | {"members": [_part(member) for member in part.members]} if part.members else found
