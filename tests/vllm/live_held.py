"""More requests than a KV cache has room for, sent to vLLM's own server while its engine is held, beside what kvsim
predicts.

    python tests/vllm/live_held.py --vllm PYTHON --seed S [--requests N]

One request is answered, then `/pause?mode=keep&clear_cache=false` stops the engine's steps and lets requests queue up;
each is sent when the one before is there for sure, so that their order is that of the workload. After `/resume` all
have been there from the first step on: what each step computes, who is preempted and who ends when follows from blocks
and budget alone, and not from how long a step takes. So preemptions, cached tokens, and the order of first and last
tokens must be as simulated. Tokens of one step have no order.
"""

import argparse
import sys
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from live_plan import plan_of
from server import VOCABULARY, post, serving

from kvsim.measure.measure import measure
from kvsim.measure.result import MeasuredRun
from kvsim.measure.settings import Sending, server_of
from kvsim.record.result import SystemResult
from kvsim.sim.run import Case, run
from kvsim.workload.synthetic.prefixes import Prefixes, prefixed
from kvsim.workload.workload import Workload

HELD_S = 4.0
"""By then the first request has been answered and the engine is held."""
APART_S = 0.4
"""Between two requests: long enough for the one before to have reached the engine, also on a busy machine."""
SETTLED_S = 3.0
ARGUMENTS = (
    "--block-size 32 --num-gpu-blocks-override 100 --max-model-len 1024 --max-num-batched-tokens 512 --max-num-seqs 24"
)


def burst(requests: int, seed: int) -> Workload:
    """Prompts that share one of three heads; answers of up to six blocks, so that sequences outgrow the cache."""
    random = np.random.default_rng(seed)
    prompts, answers = random.integers(20, 420, requests), random.integers(1, 190, requests)
    apart_s = np.where(np.arange(requests) > 0, HELD_S + np.arange(requests) * APART_S, 0.0)
    return prefixed(apart_s, prompts, answers, Prefixes(count=3, tokens=96), random, "burst")


def held(url: str, workload: Workload, seed: int) -> MeasuredRun:
    """The first request answered alone; all others sent while the engine stands, and answered from one moment on."""
    resume = threading.Timer(float(workload.arrival_s[-1]) + SETTLED_S, post, (url, "/resume"))

    def ended(count: int, _now_s: float) -> None:
        if count == 1:
            post(url, "/pause?mode=keep&clear_cache=false")
            resume.start()

    sending = Sending(content_seed=seed, vocabulary=VOCABULARY)
    found = measure(server_of(url), workload, sending, progress=ended)
    resume.join()
    return found


def order(times_s: dict[int, float], steps_s: dict[int, float]) -> list[str]:
    """Requests whose tokens came in another order than their steps'. Those of one step have none."""
    found, latest, by_step = [], -1.0, sorted(steps_s, key=lambda row: (steps_s[row], times_s[row]))
    for before, row in pairwise(by_step):
        latest = max(latest, times_s[before])
        if steps_s[row] > steps_s[before] and times_s[row] < latest:
            found.append(f"r{row} before r{before}")
    return found


def differences(measured: MeasuredRun, predicted: SystemResult) -> list[str]:
    """What is not as predicted, in words."""
    found = [f"r{row.request_id}: {row.status} {row.error}" for row in measured.rows if not row.is_ok]
    if found:
        return found
    table = predicted.table
    ids = table["request_id"].astype(int).tolist()
    hits = dict(zip(ids, table["hit_tokens"].astype(int).tolist(), strict=True))
    found += [
        f"r{row.request_id}: {row.cached_tokens} tokens cached, {hits[row.request_id]} predicted"
        for row in measured.rows
        if row.cached_tokens != hits[row.request_id]
    ]
    for what, name in (("first", "first_token_s"), ("last", "finish_s")):
        times_s = {row.request_id: float(getattr(row, name)) for row in measured.rows}
        wrong = order(times_s, dict(zip(ids, table[name].tolist(), strict=True)))
        found += [f"{what} token of {each}" for each in wrong]
    counters = {"preemptions": predicted.cache.preemptions, "prefix_hits": predicted.cache.hit_tokens}
    for name, value in (counters | {"prefix_queries": predicted.cache.query_tokens}).items():
        counted = measured.metrics.counted(name)
        if counted != value:
            found.append(f"{name}: {counted} counted, {value} predicted")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--requests", type=int, default=60)
    asked = parser.parse_args()
    workload = burst(asked.requests, asked.seed)
    with serving(asked.vllm, ARGUMENTS) as url:
        plan = plan_of(server_of(url))
        measured = held(url, workload, asked.seed)
    at_once = replace(workload, arrival_s=np.where(workload.arrival_s > 0, 1e4, 0.0))
    predicted = run(Case("unified", "unified", plan, at_once, asked.seed)).system
    wrong = differences(measured, predicted)
    first = "counts and order as predicted"
    if wrong:
        first = f"{len(wrong)} differences, the first: {'; '.join(wrong[:3])}"
    print(
        f"{len(measured.answered)} requests at once, seed {asked.seed}: {predicted.cache.preemptions} preemptions, "
        f"{predicted.cache.hit_tokens:,} of {predicted.cache.query_tokens:,} tokens cached: {first}",
        flush=True,
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
