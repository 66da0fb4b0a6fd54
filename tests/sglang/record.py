"""Record what SGLang's own scheduler decides, batch by batch, on random traffic: no GPU, no model, no weights.

Run it with a python that has SGLang and a torch of any kind (`make test-sglang` builds one):

    python tests/sglang/record.py OUT_DIR --seed S [--count N] [--pressed N]

N recordings, and N more in which answers outgrow the pool.

SGLang's own are: the scheduler with both of its event loops, admission, retraction, batches, the radix cache with the
tree core that a server takes (in Rust) or another one, allocators, and what is done with the model's output. Not its
own are the model (an answer's tokens are known here), the front end (requests come from a list), and everything that
reports. Packages of kernels need not be there (`stand_ins.py`).

A recording is JSON, gzipped: `engine`, `config`, `requests` and `steps`. One step is one call of
`get_next_batch_to_run` that gives a batch or retracts somebody. Its fields are read right after the call: `prefills`
(request, tokens of it that had KV before, tokens that the batch computes, in the batch's order), `decodes` (in the
batch's order), `running` (the batch that goes on decoding; those in `prefills` are not in it yet, nor is whoever
decodes beside them), `waiting` (in the order the queue has then), `retracted`, `free_tokens` (of the allocator),
`evictable_tokens` (of the tree) and `new_token_ratio`. A request's `arrival_step` is the number of the step before
which it is queued, and `arrival_pass` how many calls since the last step gave no batch: all that they could compute was
under way, or nothing was there. An idle scheduler is given its next request after one idle call.

Without overlap, a step's output is looked at before the next one is scheduled; with it, after. Every answer ends by its
length, which the scheduler is told, as benchmark clients do.
"""

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1] / "vllm"))

from random_traffic import Record, Traffic
from recorder import Config, DrivenScheduler

USUAL_COUNT, USUAL_PRESSED = 72, 16

# The values of each setting; a repeated one is drawn more often.
SETTINGS: dict[str, list[Any]] = {
    "traffic": ["shared", "sessions", "bursts", "aligned", "random"],
    "memory": ["tight", "starved", "roomy"],
    "page_size": [1, 1, 16, 32],
    "chunked_prefill_size": [64, 128, 256, 1024, -1],
    "max_prefill_tokens": [256, 512, 16384],
    "max_running_requests": [4, 8, 16, 48],
    "schedule_policy": ["fcfs", "fcfs", "lpm", "lpm", "dfs-weight", "lof"],
    "enable_mixed_chunk": [False, True],
    "disable_overlap_schedule": [False, True],
    "disable_radix_cache": [False, False, False, False, True],
    "schedule_conservativeness": [0.02, 0.1, 0.3, 1.0],
    "ignore_eos": [False, False, True],
    "cache": ["rust"],
    "answers": ["short", "long"],
    "load": [0.1, 0.7, 2.0, 5.0],
}


def drawn(rng: random.Random, count: int) -> list[Config]:
    """`count` random combinations in which each value of each setting has its share."""
    columns = {}
    for name, values in SETTINGS.items():
        columns[name] = list(islice(cycle(values), count))
        rng.shuffle(columns[name])
    return [fitted(rng, {name: column[k] for name, column in columns.items()}) for k in range(count)]


def pressed(rng: random.Random, config: Config) -> Config:
    """The same, with answers that outgrow the pool, so that somebody is retracted now and then."""
    chunk = config["chunked_prefill_size"]
    seats = min(16, chunk // 2) if config["enable_mixed_chunk"] and chunk > 0 else 16
    changed = {"memory": "tight", "answers": "long", "schedule_conservativeness": 0.02, "ignore_eos": False}
    return fitted(rng, config | changed | {"load": 0.7, "max_running_requests": seats})


def fitted(rng: random.Random, config: Config) -> Config:
    """With a pool of tokens as full as `memory` says, and chunks that a mixed batch leaves room for."""
    longest = rng.choice([192, 400, 700])
    factor = {"starved": 1.2, "tight": 2.2, "roomy": 12.0}[config["memory"]]
    page, chunk = config["page_size"], config["chunked_prefill_size"]
    tokens = max(int(longest * factor), longest + 4 * page) // page * page
    if config["enable_mixed_chunk"] and chunk > 0:
        config["max_running_requests"] = min(config["max_running_requests"], chunk // 2)
    return config | {
        "context_length": longest + 8,
        "max_total_num_tokens": tokens,
        "request_slots": config["max_running_requests"],
    }


def requests_of(rng: random.Random, config: Config, count: int) -> list[Record]:
    """Each ends by its length, and fits the pool."""
    longest = config["context_length"] - 8
    traffic = Traffic(rng, config["traffic"], 16, longest)
    requests = traffic.requests(count // 3 if config["answers"] == "long" else count, config["load"])
    for request in requests:
        if config["answers"] == "long":
            request["prompt_token_ids"] = request["prompt_token_ids"][: longest // 6]
            request["output_token_ids"] = traffic.tokens(rng.randrange(1, longest // 2))
        request["prompt_token_ids"] = request["prompt_token_ids"][: longest - 2]
        room = longest - len(request["prompt_token_ids"]) - 1
        request["output_token_ids"] = request["output_token_ids"][: max(room, 1)]
        request["max_new_tokens"] = len(request["output_token_ids"])
        request["ignore_eos"] = config["ignore_eos"]
        del request["priority"]
    return requests


def recorded(config: Config, requests: list[Record]) -> Record:
    driven = DrivenScheduler(config, requests)
    steps = driven.run()
    for request in driven.requests:
        del request["ignore_eos"], request["max_new_tokens"]
    return {"engine": f"sglang {version('sglang')}", "config": config, "requests": driven.requests, "steps": steps}


def write(file: Path, recording: Record) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(file, "wb", mtime=0) as out:
        out.write(json.dumps(recording, separators=(",", ":")).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=USUAL_COUNT)
    parser.add_argument("--pressed", type=int, default=USUAL_PRESSED)
    parser.add_argument("--requests", type=int, default=180)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    seen: Counter[str] = Counter()
    configs = drawn(rng, asked.count)
    configs += [pressed(rng, config) for config in drawn(rng, asked.pressed)]
    for number, config in enumerate(configs):
        recording = recorded(config, requests_of(rng, config, asked.requests))
        write(asked.out / f"sglang-{asked.seed}-{number:03}.json.gz", recording)
        steps = recording["steps"]
        seen.update(steps=len(steps), retractions=sum(len(step["retracted"]) for step in steps))
        seen.update(mixed=sum(bool(step["prefills"] and step["decodes"]) for step in steps))
    print(f"{len(configs)} recordings of sglang {version('sglang')}: {dict(seen)}")


if __name__ == "__main__":
    main()
