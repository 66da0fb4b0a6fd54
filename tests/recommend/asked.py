"""Small questions: a few GPUs, short requests, short runs."""

from __future__ import annotations

from kvsim.capacity.sources import WordSource
from kvsim.launch import read_launch_line
from kvsim.recommend import Question
from kvsim.workload.words import word_of

SMALL = (
    "recommend.fewest_requests=160",
    "recommend.lives=3",
    "recommend.replications=2",
    "recommend.most_replications=3",
    "recommend.budget_requests=4000",
    "recommend.bisection_replications=3",
    "recommend.resolution=0.2",
    "recommend.max_num_batched_tokens=[512, 2048]",
    "recommend.max_num_seqs=[64]",
)
LLAMA_8B, LLAMA_70B = (f"vllm serve meta-llama/Llama-3.1-{size}-Instruct" for size in ("8B", "70B"))


def question(
    line: str = LLAMA_8B,
    *,
    gpus: int | None = 2,
    rate: float | None = 20.0,
    workload: str = "in=300,out=40",
    sets: tuple[str, ...] = (),
    ttft: float = 100.0,
    tpot: float = 30.0,
    **more: object,
) -> Question:
    limits = (f"slo.ttft_ms={ttft}", f"slo.tpot_ms={tpot}")
    return Question(
        words=line,
        launch=read_launch_line(line),
        source=WordSource(word_of(workload)),
        gpu="h100-sxm",
        gpus=gpus,
        rate_per_s=rate,
        sets=(*SMALL, *limits, *sets),
        **more,  # type: ignore[arg-type]
    )
