"""The sample traces that kvsim ships: ``python -m kvsim.workload.samples trace`` writes them again."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kvsim.config.schema import PdTrace
from kvsim.workload.graph import RequestGraph
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Workload
from kvsim.workload.writers import write_trace


@dataclass(frozen=True)
class Sample:
    """One file: its schema, its size, and how long its prompts are."""

    file: str
    format: str
    num_requests: int
    system_prompt_tokens: int
    new_tokens_mean: float
    seed: int
    rate_per_s: float = 0.4


SAMPLES = (
    Sample("azure_sample.csv", "azure", 40, 600, 400, 1),
    # Slow enough for whole seconds to tell all requests apart.
    Sample("burstgpt_v1_sample.csv", "burstgpt_v1", 40, 600, 400, 5, rate_per_s=0.04),
    Sample("burstgpt_sample.csv", "burstgpt", 40, 600, 400, 6),
    Sample("mooncake_sample.jsonl", "mooncake", 40, 2600, 900, 2),
    Sample("splitwise_sample.csv", "splitwise", 40, 600, 400, 7),
    Sample("bailian_sample.jsonl", "bailian", 40, 200, 90, 8),
    Sample("aiperf_sample.jsonl", "aiperf", 40, 2600, 900, 9),
    # Token ids are written out, so this one is short.
    Sample("sharegpt_sample.jsonl", "sharegpt", 20, 64, 48, 4),
    Sample("generic_sample.csv", "generic", 40, 600, 400, 4),
)


def write_samples(folder: str | Path) -> list[Path]:
    """Writes every sample into ``folder`` and returns the paths; the same bytes each time."""
    paths = []
    for sample in SAMPLES:
        paths.append(Path(folder) / sample.file)
        workload = chat(_traffic(sample), sample.num_requests, sample.rate_per_s, sample.seed)
        if sample.format == "aiperf":
            workload = _waiting(workload)
        write_trace(workload, paths[-1], sample.format)
    return paths


def _waiting(workload: Workload) -> Workload:
    """Chats as a closed loop: a turn waits for the answer before it, which is taken to last as it would."""
    after, think_s = np.full(len(workload), -1, dtype=np.int64), np.zeros(len(workload))
    latest: dict[int, int] = {}
    pace_s = assumed_pace_s(None)
    for request in workload:
        row, before = request.request_id, latest.get(request.session_id)
        if before is not None:
            answered_s = workload.arrival_s[before] + workload.output_tokens[before] * pace_s
            after[row], think_s[row] = before, max(request.arrival_s - answered_s, 0.0)
        latest[request.session_id] = row
    return replace(workload, graph=RequestGraph.turns(after, think_s))


def _traffic(sample: Sample) -> PdTrace:
    """A few conversations over three system prompts, most of them carrying their history."""
    return PdTrace(
        kind="chat",
        arrivals="poisson",
        num_requests=None,
        num_sessions=None,
        turns_per_session=4,
        num_system_prompts=3,
        system_prompt_tokens=sample.system_prompt_tokens,
        prompt_tokens_min=None,
        prompt_tokens_max=None,
        new_tokens_mean=sample.new_tokens_mean,
        new_tokens_cv=0.5,
        initial_context_tokens=None,
        history_tokens_mean=sample.new_tokens_mean,
        output_tokens_mean=sample.new_tokens_mean / 2,
        output_tokens_cv=0.5,
        think_time_s=10,
        num_shared_docs=0,
        num_rag_chunks=0,
        doc_zipf_alpha=0,
        qps=None,
        seed=None,
    )


if __name__ == "__main__":
    for written in write_samples(sys.argv[1]):
        print(written)
