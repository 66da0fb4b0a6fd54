"""Record vLLM's scheduler in a pipeline of stages: random traffic of record.py, under a clock of its own.

    python tests/vllm/record_pipeline.py OUT_DIR --seed S [--count N] [--requests N]
    python tests/vllm/record_pipeline.py --check FILE...

A recording is one of record.py's whose `config` has `pipeline_parallel_size`, and in `pipeline` what that clock goes
by: `stages`, each stage's seconds for a batch and for each of its tokens, and `send`, those of the way to the next. A
request has `arrival_s`, which also breaks ties between equal priorities; a step has `time_s` and `end_s`, when it was
scheduled and its output applied, and `applied`, how many outputs had been applied before.

The order of operations is that of `EngineCore.step_with_batch_queue`, whose queue has room for as many batches as there
are stages, and with asynchronous scheduling for one more: while there is room, what comes next is scheduled, be it
nothing; else the oldest output is waited for and applied. After a turn that scheduled no tokens the engine sleeps for
a millisecond where requests remain. A stage begins a batch once it is free and the batch is there, and is free again
once it has sent it on; batches without tokens take no time. With asynchronous scheduling the first stage also waits
until the batch of so many steps before as there are stages has its tokens, if any: it computes with them.
"""

import argparse
import random
import sys
from collections import deque
from itertools import pairwise
from os import environ
from pathlib import Path
from typing import Any

import recorder
from random_traffic import Record, Traffic, with_leavers
from record import check, draw_configs, engine_name, summary, write
from recorder import MODEL, Config, LivelockError, Recorder, model_folder
from vllm.config import ParallelConfig, VllmConfig
from vllm.v1.core.sched.output import SchedulerOutput

LEAST_COUNT = 24
PAUSE_S = 0.001
MODEL_OF_STAGES: Config = MODEL | {"num_hidden_layers": 8}
bare_config = recorder.vllm_config


def with_stages(model: Path, config: Config) -> VllmConfig:
    """Model runner V2, which schedules ahead in pipelines, wants Triton when it is asked for, and not afterwards."""
    environ.pop("VLLM_USE_V2_MODEL_RUNNER", None)
    built = bare_config(model, config | {"async_scheduling": False})
    built.parallel_config = ParallelConfig(
        pipeline_parallel_size=config["pipeline_parallel_size"], distributed_executor_backend="mp"
    )
    environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"
    built.scheduler_config.async_scheduling = config["async_scheduling"]
    assert built.use_v2_model_runner
    return built


class Line:
    """Batches on their way through the stages."""

    def __init__(self, stages: list[list[float]], send: list[float], is_async: bool) -> None:
        self.stages, self.send, self.is_async = stages, send, is_async
        self.free_s = [0.0] * len(stages)
        self.known_s: list[float] = []

    def passed_s(self, now: float, tokens: int, gives: bool) -> float:
        """When a batch that is scheduled now has its tokens."""
        arrived_s, size = now, len(self.stages)
        if self.is_async and len(self.known_s) >= size:
            arrived_s = max(arrived_s, self.known_s[-size])
        if not tokens:
            self.known_s.append(0.0)
            return now
        for place, (batch_s, token_s) in enumerate(self.stages):
            end_s = max(arrived_s, self.free_s[place]) + (batch_s + token_s * tokens)
            if place + 1 < size:
                end_s += self.send[0] + self.send[1] * tokens
            arrived_s = self.free_s[place] = end_s
        self.known_s.append(arrived_s if gives else 0.0)
        return arrived_s


class PipelineRecorder(Recorder):
    """`Recorder` of a pipeline."""

    def __init__(self, model: Path, config: Config, requests: list[Record]) -> None:
        super().__init__(model, config, requests)
        times = config["pipeline"]
        self.line = Line(times["stages"], times["send"], self.asynchronous)
        self.now, self.applied = 0.0, 0
        self.most = self.scheduler.vllm_config.max_concurrent_batches
        assert self.most == len(times["stages"]) + self.asynchronous

    def as_vllm(self, request: Record) -> Any:
        found = super().as_vllm(request)
        found.arrival_time = request["arrival_s"]
        return found

    def add_arrivals(self) -> None:
        while self.coming and self.coming[0]["arrival_s"] <= self.now:
            request = self.coming.popleft()
            request["arrival_step"] = len(self.steps)
            self.scheduler.add_request(self.as_vllm(request))

    def observed(self, scheduled: SchedulerOutput) -> Record:
        return super().observed(scheduled) | {"time_s": self.now, "applied": self.applied}

    def run(self) -> list[Record]:
        scheduler = self.scheduler
        queue: deque[tuple[SchedulerOutput, dict[str, bool], float]] = deque()
        while self.coming or scheduler.has_requests() or queue:
            if not scheduler.has_requests() and not queue:
                self.now = max(self.now, self.coming[0]["arrival_s"])
            self.add_arrivals()
            executed = False
            if scheduler.has_requests():
                scheduled, producing = self.step()
                tokens = scheduled.total_num_scheduled_tokens
                executed = tokens > 0
                end_s = self.line.passed_s(self.now, tokens, any(producing.values()))
                queue.append((scheduled, producing, end_s))
                if len(queue) < self.most and (executed or scheduler.has_requests()):
                    self.now += 0.0 if executed else PAUSE_S
                    continue
            oldest, producing, end_s = queue.popleft()
            self.now = max(self.now, end_s)
            self.steps[self.applied]["end_s"] = self.now
            self.abort_gone(self.applied)
            scheduler.update_from_output(oldest, self.output(oldest, producing))
            self.applied += 1
            if not executed and scheduler.has_requests():
                self.now += PAUSE_S
        self.forget_stays()
        return self.steps


def drawn_times(rng: random.Random, stages: int) -> Config:
    """Milliseconds by powers of two, so that sums are exact in whatever order they are made."""
    base, token = rng.choice([1, 4, 16]) / 1024, rng.choice([1, 4]) / 2**16
    spread = rng.choice([[1, 1], [1, 1.5], [0.5, 2]])
    times = [[base * (factor := rng.choice(spread)), token * factor] for _ in range(stages)]
    return {"stages": times, "send": [rng.choice([0, 1]) / 2**13, rng.choice([0, 1]) / 2**20]}


def record(model: Path, config: Config, rng: random.Random, count: int, aborts: bool) -> Record:
    traffic = Traffic(rng, config["traffic"], config["block_size"], config["max_model_len"])
    requests = traffic.requests(count or rng.randrange(60, 120), rng.choice([0.5, 1, 2, 4, 8]))
    times = config["pipeline"]
    step_s = sum(batch_s for batch_s, _ in times["stages"]) + 32 * max(token_s for _, token_s in times["stages"])
    for request in requests:
        request["arrival_s"] = (request["arrival_step"] + rng.choice([0.0, rng.random()])) * step_s / 2
    requests.sort(key=lambda request: request["arrival_s"])
    assert all(one["arrival_s"] <= other["arrival_s"] for one, other in pairwise(requests))
    run = PipelineRecorder(model, config, with_leavers(rng, requests) if aborts else requests)
    try:
        steps = run.run()
    except LivelockError as endless:
        print(f"{endless}: drawn again")
        return record(model, config, rng, count, aborts)
    kept = {name: value for name, value in config.items() if name not in ("traffic", "memory")}
    return {"engine": engine_name(config), "config": kept, "requests": run.requests, "steps": steps}


def record_all(out: Path, seed: int, count: int, requests: int, model: Path, aborts: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rng, steps = random.Random(seed), 0
    for number, config in enumerate(draw_configs(rng, count)):
        stages = 2 + number % 3
        config |= {"pipeline_parallel_size": stages, "pipeline": drawn_times(rng, stages)}
        recording = record(model, config, rng, requests, aborts)
        mode = "async" if config["async_scheduling"] else "sync"
        name = f"{number:02d}-pp-{stages}-{mode}-{config['policy']}-{config['traffic']}-{config['memory']}"
        write(out / f"{name}.json.gz", recording)
        steps += len(recording["steps"])
        print(f"{name}: {summary(recording)}", flush=True)
    print(f"{steps} steps")


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the decisions of vLLM's scheduler in a pipeline.")
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--count", type=int, default=LEAST_COUNT)
    parser.add_argument("--requests", type=int, default=0, help="of each trace; 0: a random number")
    parser.add_argument("--aborts", action="store_true", help="let some clients go before their answers are complete")
    parser.add_argument("--check", nargs="+", type=Path, metavar="FILE", help="record FILEs again and compare")
    args = parser.parse_args()
    recorder.vllm_config, recorder.STEP_LIMIT, recorder.MODEL = with_stages, 20_000, MODEL_OF_STAGES
    if args.check:
        return min(check(args.check, PipelineRecorder), 1)
    if args.out is None or args.seed is None:
        parser.error("give OUT_DIR and --seed, or --check FILE...")
    record_all(args.out, args.seed, args.count, args.requests, model_folder(MODEL_OF_STAGES), args.aborts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
