"""Record vLLM's scheduler beside LoRA adapters: random traffic of record.py, each request at one of some adapters.

    python tests/vllm/record_adapters.py OUT_DIR --seed S [--count N]

A recording is one of record.py's whose `config` has `max_loras`, and whose requests have `adapter`, from 1.
"""

import argparse
import random
import sys
from pathlib import Path

import recorder
from random_traffic import Record, Traffic
from record import draw_configs, engine_name, summary, write
from recorder import Config, LivelockError, Recorder, model_folder
from vllm.config import LoRAConfig, VllmConfig
from vllm.lora.request import LoRARequest
from vllm.v1.request import Request

LEAST_COUNT = 24
bare_config = recorder.vllm_config


def with_lora(model: Path, config: Config) -> VllmConfig:
    built = bare_config(model, config)
    built.lora_config = LoRAConfig(max_loras=config["max_loras"])
    return built


class AdapterRecorder(Recorder):
    """`Recorder` whose requests go to adapters."""

    def as_vllm(self, request: Record) -> Request:
        found = super().as_vllm(request)
        number = request["adapter"]
        asked = LoRARequest(lora_name=f"adapter-{number}", lora_int_id=number, lora_path=f"/{number}")
        return Request(
            request_id=found.request_id,
            prompt_token_ids=found.prompt_token_ids,
            sampling_params=found.sampling_params,
            pooling_params=None,
            arrival_time=found.arrival_time,
            priority=found.priority,
            block_hasher=self.hasher,
            lora_request=asked,
        )


def record(model: Path, config: Config, rng: random.Random) -> Record:
    traffic = Traffic(rng, config["traffic"], config["block_size"], config["max_model_len"])
    requests = traffic.requests(rng.randrange(60, 120), rng.choice([0.5, 1, 2, 4, 8]))
    adapters = rng.randrange(2, 12)
    for request in requests:
        request["adapter"] = rng.randrange(1, adapters + 1)
    run = AdapterRecorder(model, config, requests)
    try:
        steps = run.run()
    except LivelockError as endless:
        print(f"{endless}: drawn again")
        return record(model, config, rng)
    kept = {name: value for name, value in config.items() if name not in ("traffic", "memory")}
    return {"engine": engine_name(config), "config": kept, "requests": run.requests, "steps": steps}


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the decisions of vLLM's scheduler beside adapters.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=LEAST_COUNT)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recorder.vllm_config = with_lora
    model, rng = model_folder(), random.Random(args.seed)
    for number, config in enumerate(draw_configs(rng, args.count)):
        config["max_loras"] = rng.choice([1, 2, 3, 4])
        recording = record(model, config, rng)
        mode = "async" if config["async_scheduling"] else "sync"
        name = f"{number:02d}-{mode}-{config['policy']}-{config['traffic']}-loras-{config['max_loras']}"
        write(args.out / f"{name}.json.gz", recording)
        print(f"{name}: {summary(recording)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
