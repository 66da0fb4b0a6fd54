"""The sample traces that kvsim ships: ``python -m kvsim.workload.samples trace`` writes them again."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from kvsim.config.schema_traffic import PdTrace
from kvsim.workload.synthetic.chat import chat
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
    Sample("sharegpt_sample.jsonl", "sharegpt", 20, 64, 48, 3),
    Sample("generic_sample.csv", "generic", 40, 600, 400, 4),
)


def write_samples(folder: str | Path) -> list[Path]:
    """Writes every sample into ``folder`` and returns the paths; the same bytes each time."""
    paths = []
    for sample in SAMPLES:
        paths.append(Path(folder) / sample.file)
        workload = chat(_traffic(sample), sample.num_requests, sample.rate_per_s, sample.seed)
        write_trace(workload, paths[-1], sample.format)
    return paths


def _traffic(sample: Sample) -> PdTrace:
    """A few conversations over three system prompts, most of them carrying their history."""
    return PdTrace(
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
