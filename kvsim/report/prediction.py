"""What ``predict`` says of a deployment: latencies, what it serves, what binds it, the largest rate within the SLO."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.table import Table

from kvsim.config import derived
from kvsim.config.disturbed import disturbances
from kvsim.modes.cluster import DeployedCluster
from kvsim.record.figures import Drafts, Quantiles, SystemSummary
from kvsim.record.labels import counted, listed, number, percent
from kvsim.record.result import AdapterUse
from kvsim.report.conclusion import condition, is_overloaded, misfits, overload, reservation, sentence_of
from kvsim.report.sections import Sections

QUANTILES = ("mean", "p50", "p90", "p95", "p99", "max")


def conclude_prediction(report: Sections) -> str:
    """What the deployment gives at this load, up to which rate it keeps the SLO, and what binds it."""
    if not report.results:
        return "Nothing was simulated."
    (result,) = report.results
    where = condition(report)
    clauses = overload(report.results, where) if is_overloaded(result) else [_gives(report, result, where)]
    sentences = [reservation(report.results) + sentence_of([*clauses, *misfits(report.results)])]
    return " ".join([*sentences, *_answers(report, "them" if not is_overloaded(result) else _limits(result))])


def _limits(result: SystemSummary) -> str:
    slo = result.goodput.slo
    return f"TTFT <= {slo.ttft_ms:,g} ms and mean TPOT <= {slo.tpot_ms:,g} ms"


def _answers(report: Sections, limits: str) -> Iterator[str]:
    cluster = report.cluster
    if isinstance(cluster, DeployedCluster):
        if cluster.slo_rate is not None:
            left_out = disturbances(report.config)
            calm = f"Without {listed(left_out)}: " if left_out else ""
            yield f"{calm}{cluster.slo_rate.sentence(limits)}"
        if cluster.binding is not None:
            yield cluster.binding.sentence()


def _gives(report: Sections, result: SystemSummary, where: str) -> str:
    config, instances = report.config, report.cluster.instances
    several = "," if config.cluster.pools and len(config.cluster.pools) > 1 else " of"
    size = f"{counted(instances, 'instance')}{several} {derived.kinds_in_words(config)}"
    verb = "gives" if instances == 1 else "give"
    ttft, tpot = result.ttft_ms, result.tpot_ms
    if ttft.p50 is None:
        serve = "answers" if instances == 1 else "answer"
        return f"{size} {serve} no request that counts {where}"
    said = f"{size} {verb} a TTFT of {number(ttft.p50)} ms (p99 {number(ttft.p99)})"
    if tpot.mean is not None:
        said += f" and a TPOT of {number(tpot.p50)} ms (p99 {number(tpot.p99)})"
    return f"{said} {where}; {percent(result.goodput.share)} of requests keep {_limits(result)}"


def prediction_tables(result: SystemSummary) -> Iterator[Table]:
    """Latencies by percentile, and what was served and used."""
    yield _latencies(result)
    yield _served(result)


def _latencies(result: SystemSummary) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in QUANTILES:
        table.add_column(name, justify="right", no_wrap=True)
    rows: list[tuple[str, Quantiles]] = [
        ("TTFT (ms)", result.ttft_ms),
        ("TPOT (ms)", result.tpot_ms),
        ("ITL (ms)", result.itl_ms),
        ("E2E (ms)", result.e2e_ms),
    ]
    for label, quantiles in rows:
        table.add_row(label, *(number(getattr(quantiles, name)) for name in QUANTILES))
    return table


def _served(result: SystemSummary) -> Table:
    # Names and figures need no heading; below them as much is left free as below the others.
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1), caption=" ")
    table.add_column()
    table.add_column(justify="right")
    use, throughput = result.utilisation["colocated"], result.throughput
    rows = {
        "requests/s": number(throughput.requests_per_s),
        "within the SLO, requests/s": number(result.goodput.requests_per_s),
        "output tokens/s": number(throughput.output_tokens_per_s),
        "output tokens/s a GPU": number(throughput.tokens_per_s_per_gpu),
        "prefix hits, of prompt tokens": percent(result.cache.prefix_hit_rate),
        "KV cache in use": percent(use.kv_usage),
        "load, of the maximum rate": percent(use.load),
        "preemptions": f"{result.preemptions:,}",
    }
    for label, value in (rows | _drafted(result.drafts) | _loaded(result.adapters)).items():
        table.add_row(label, value)
    return table


def _drafted(drafts: Drafts | None) -> dict[str, str]:
    if drafts is None:
        return {}
    return {
        "drafts accepted": percent(drafts.acceptance_rate),
        "tokens a verification": number(drafts.mean_acceptance_length),
    }


def _loaded(adapters: AdapterUse | None) -> dict[str, str]:
    if adapters is None:
        return {}
    return {
        "adapters from host memory": f"{adapters.from_host:,}",
        "adapters from disk": f"{adapters.from_disk:,}",
        "steps waited for them, s": number(adapters.lost_s),
    }
