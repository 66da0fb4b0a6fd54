"""Why separating prefill and decode wins or loses against unified instances on the same GPUs."""

from __future__ import annotations

import numpy as np

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.figures import SystemSummary
from kvsim.record.labels import COMPONENT_LABELS, counted, number, percent, ratio, relative_difference
from kvsim.record.result import SystemResult

APART = 0.1
"""The relative difference from which on two figures are told apart."""
HANDED_OVER = ("transfer", "decode_wait", "first_decode")
"""Parts of TTFT that unified serving does not have."""


def _reason(rule: str, weight: float, sentence: str, **figures: float | int | None) -> Reason:
    """A reason of all that is compared."""
    return Reason(about="pd", rule=rule, sentence=sentence, figures=figures, weight=weight)


def _unified(evidence: Evidence) -> SystemSummary | None:
    return next((other for other in evidence.others if "colocated" in other.utilisation), None)


def side(evidence: Evidence) -> Reason | None:
    """Which side is nearer to its maximum rate, and the ratio at which both are alike."""
    use, cluster = evidence.summary.utilisation, evidence.experiment.cluster
    if not evidence.is_pd:
        return None
    loads = {name: use[name].load for name in ("prefill", "decode")}
    prefill, decode = loads["prefill"], loads["decode"]
    if prefill is None or decode is None or relative_difference(prefill, decode) < APART:
        return None
    busier, other = ("prefill", "decode") if prefill > decode else ("decode", "prefill")
    said = (
        f"The {busier} side is the first to bind: it is asked {percent(loads[busier])} of its maximum rate, "
        f"{other} {percent(loads[other])}"
    )
    figures: dict[str, float | int | None] = {"prefill_load": prefill, "decode_load": decode}
    balanced, own = cluster.balanced_pd_ratio, (cluster.prefill_instances, cluster.decode_instances)
    if balanced is not None and balanced != own:
        said += f"; P:D {ratio(balanced)} would load both nearest alike, {ratio(own)} was simulated"
        figures |= {"balanced_prefill": balanced[0], "balanced_decode": balanced[1]}
        figures |= {"prefill_instances": own[0], "decode_instances": own[1]}
    weight = relative_difference(prefill, decode)
    return _reason("side", weight, f"{said}.", **figures)


def ttft_gap(evidence: Evidence) -> Reason | None:
    """The part of TTFT in which PD differs most from unified."""
    unified = _unified(evidence)
    if not evidence.is_pd or unified is None:
        return None
    own, theirs = evidence.summary.attribution_ms.mean, unified.attribution_ms.mean
    totals = [sum(value or 0.0 for value in each.values()) for each in (own, theirs)]
    if not all(totals) or relative_difference(*totals) < APART:
        return None
    gaps = {name: (own[name] or 0.0) - (theirs.get(name) or 0.0) for name in own}
    sign = 1 if totals[0] > totals[1] else -1
    name = max(gaps, key=lambda each: sign * gaps[each])
    does, more = ("adds", "longer") if sign > 0 else ("saves", "shorter")
    said = (
        f"Mean TTFT is {number(totals[0])} ms with PD and {number(totals[1])} ms unified; what {does} most is "
        f"{COMPONENT_LABELS[name]}, {number(abs(gaps[name]))} ms {more} with PD."
    )
    weight = relative_difference(*totals)
    figures = {"ttft_pd_ms": totals[0], "ttft_unified_ms": totals[1], "gap_ms": gaps[name]}
    return _reason("ttft_gap", weight, said, **figures)


def prefill_queue(evidence: Evidence) -> Reason | None:
    """All prompts queue at the few prefill instances, or wait for none where no decodes hold the seats."""
    unified = _unified(evidence)
    if not evidence.is_pd or unified is None:
        return None
    own = evidence.summary.attribution_ms.mean
    pd_ms, unified_ms = own["queue"] or 0.0, unified.attribution_ms.mean["queue"] or 0.0
    total_ms = sum(value or 0.0 for value in own.values())
    if not total_ms or abs(pd_ms - unified_ms) < APART * total_ms:
        return None
    prefills, everyone = evidence.instances, unified.utilisation["colocated"].instances
    said = (
        f"Prompts queue {'longer' if pd_ms > unified_ms else 'shorter'} with PD: {number(pd_ms)} ms on average for "
        f"{counted(prefills, 'prefill instance')}, {number(unified_ms)} ms for {counted(everyone, 'unified instance')}."
    )
    figures = {"queue_pd_ms": pd_ms, "queue_unified_ms": unified_ms}
    sizes = {"prefill_instances": prefills, "unified_instances": everyone}
    weight = min(abs(pd_ms - unified_ms) / total_ms, 1.0)
    return _reason("prefill_queue", weight, said, **figures, **sizes)


def decode_batch(evidence: Evidence) -> Reason | None:
    """Answers under way on an instance, and the TPOT of both."""
    unified = _unified(evidence)
    if not evidence.is_pd or unified is None:
        return None
    theirs = next((each for each in evidence.experiment.results if each.name == unified.name), None)
    ours_ms, theirs_ms = evidence.summary.tpot_ms.mean, unified.tpot_ms.mean
    if theirs is None or ours_ms is None or theirs_ms is None or relative_difference(ours_ms, theirs_ms) < APART / 2:
        return None
    batches = _under_way(evidence.result), _under_way(theirs)
    said = (
        f"Mean TPOT is {number(ours_ms)} ms with PD and {number(theirs_ms)} ms unified: a decode instance has "
        f"{number(batches[0])} answers under way on average, a unified one {number(batches[1])} and prompts beside."
    )
    figures = {"tpot_pd_ms": ours_ms, "tpot_unified_ms": theirs_ms}
    sizes = {"answers_a_decode_instance": batches[0], "answers_a_unified_instance": batches[1]}
    weight = relative_difference(ours_ms, theirs_ms)
    return _reason("decode_batch", weight, said, **figures, **sizes)


def decode_alone(evidence: Evidence) -> Reason | None:
    """Decode steps that compute no prompts, so that no token waits for one."""
    unified = _unified(evidence)
    if not evidence.is_pd or unified is None or evidence.summary.preemptions:
        return None
    own_ms, theirs_ms = evidence.summary.itl_ms.p99, unified.itl_ms.p99
    if own_ms is None or theirs_ms is None or own_ms > (1 - APART) * theirs_ms:
        return None
    said = (
        f"PD's decode instances compute no prompts: p99 of the gaps between tokens is {number(own_ms)} ms, against "
        f"{number(theirs_ms)} ms on unified instances, which do."
    )
    figures = {"itl_p99_pd_ms": own_ms, "itl_p99_unified_ms": theirs_ms}
    return _reason("decode_alone", 1 - own_ms / theirs_ms, said, **figures)


def _under_way(result: SystemResult) -> float:
    """Answers being generated on an instance that generates, over the time from the first arrival to the last end."""
    table, instances = result.table, result.roles[-1].instances
    span_s = float(np.max(table["finish_s"]) - np.min(table["arrival_s"]))
    return float((table["finish_s"] - table["first_token_s"]).sum()) / (span_s * instances) if span_s else 0.0


def handed_over(evidence: Evidence) -> Reason | None:
    """What handing requests over to decode instances adds to TTFT."""
    parts = evidence.summary.attribution_ms.mean
    own_ms = {name: parts[name] or 0.0 for name in HANDED_OVER}
    added_ms, total_ms = sum(own_ms.values()), sum(value or 0.0 for value in parts.values())
    if not evidence.is_pd or not total_ms or added_ms < APART * total_ms:
        return None
    said = (
        f"Handing over is {number(added_ms)} of {number(total_ms)} ms of PD's mean TTFT: exposed transfer "
        f"{number(own_ms['transfer'])}, waiting on the decode side {number(own_ms['decode_wait'])}, the first decode "
        f"step {number(own_ms['first_decode'])}."
    )
    figures = {f"{name}_ms": value for name, value in own_ms.items()}
    weight = added_ms / total_ms
    return _reason("handed_over", weight, said, handed_over_ms=added_ms, ttft_mean_ms=total_ms, **figures)


def transfer(evidence: Evidence) -> Reason | None:
    """KV that unified instances need not send."""
    use, own = evidence.result.transfer, evidence.summary.attribution_ms.mean
    total_ms, exposed_ms = sum(value or 0.0 for value in own.values()), own.get("transfer") or 0.0
    if use is None or not use.transfers or not total_ms or exposed_ms < APART * total_ms:
        return None
    sent_mb = use.bytes_sent / use.transfers / 1e6
    said = (
        f"Sending KV, which unified instances do not, adds {number(exposed_ms)} ms to mean TTFT: {number(sent_mb)} MB "
        f"a transfer, {percent(use.hidden_share)} of its time behind the prefill."
    )
    figures = {"transfer_ms": exposed_ms, "ttft_mean_ms": total_ms, "megabytes_a_transfer": sent_mb}
    return _reason("transfer", exposed_ms / total_ms, said, **figures, hidden_share=use.hidden_share)


RULES = (side, ttft_gap, prefill_queue, decode_batch, decode_alone, handed_over, transfer)
