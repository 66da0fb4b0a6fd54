"""Cached tokens of requests to vLLM's own server, one after the other, beside what kvsim predicts.

    python tests/vllm/live_hits.py --vllm PYTHON --seed S [--requests N]

Conversations over shared system prompts, sent by `kvsim measure` to a server whose KV cache holds a few of them. Every
request's cached tokens, and the counters of looked up and found tokens, must be as simulated. Nothing of that depends
on how long a step takes, as nobody is beside anybody.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from live_plan import plan_of
from server import VOCABULARY, serving

from kvsim.config import load_config
from kvsim.measure.measure import measure
from kvsim.measure.result import MeasuredRun
from kvsim.measure.settings import Sending, server_of
from kvsim.record.result import SystemResult
from kvsim.sim.run import Case, run
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.workload import Workload

MOST_TOKENS = 2000
SHAPES = ((32, 96), (128, 40))
"""Block sizes, and blocks, the null block among them."""


def conversations(requests: int, seed: int) -> Workload:
    """Chat, one request at a time, in the order in which it would come."""
    sizes = {"num_system_prompts": 4, "system_prompt_tokens": 300, "turns_per_session": 5, "new_tokens_mean": 60}
    lengths = {"history_tokens_mean": 160, "output_tokens_mean": 24, "num_sessions": None}
    traffic = load_config().config.pd_trace.model_copy(update=sizes | lengths)
    drawn = chat(traffic, 2 * requests, 1.0, seed)
    fits = np.flatnonzero(drawn.prompt_tokens + drawn.output_tokens <= MOST_TOKENS)[:requests]
    return replace(drawn.taken(fits, np.zeros(len(fits))), max_concurrency=1)


def differences(measured: MeasuredRun, predicted: SystemResult) -> list[str]:
    """What is not as predicted, in words."""
    found = [f"r{row.request_id}: {row.status} {row.error}" for row in measured.rows if not row.is_ok]
    ours = dict(zip(predicted.table["request_id"].astype(int), predicted.table["hit_tokens"].astype(int), strict=True))
    found += [
        f"r{row.request_id}: {row.cached_tokens} tokens cached, {ours.get(row.request_id)} predicted"
        for row in measured.rows
        if row.cached_tokens != ours.get(row.request_id)
    ]
    for name, value in (("queries", predicted.cache.query_tokens), ("hits", predicted.cache.hit_tokens)):
        counted = measured.metrics.counted(f"prefix_{name}")
        if counted != value:
            found.append(f"prefix cache {name}: {counted} counted, {value} predicted")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--requests", type=int, default=200)
    asked = parser.parse_args()
    failed = 0
    for block, blocks in SHAPES:
        workload = conversations(asked.requests, asked.seed)
        arguments = f"--block-size {block} --num-gpu-blocks-override {blocks} --max-model-len 2048"
        with serving(asked.vllm, arguments) as url:
            server = server_of(url)
            plan = plan_of(server)
            measured = measure(server, workload, Sending(content_seed=asked.seed, vocabulary=VOCABULARY))
        predicted = run(Case("unified", "unified", plan, workload, asked.seed)).system
        wrong = differences(measured, predicted)
        cached = sum(row.cached_tokens or 0 for row in measured.rows)
        print(
            f"blocks of {block}, {blocks} of them, seed {asked.seed}: {len(measured.answered)} requests one by one, "
            f"{cached:,} of {int(workload.prompt_tokens.sum()):,} prompt tokens cached, "
            f"{predicted.cache.evicted_blocks:,} blocks evicted: " + (wrong[0] if wrong else "each as predicted"),
            flush=True,
        )
        failed += bool(wrong)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
