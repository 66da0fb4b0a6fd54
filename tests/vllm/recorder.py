"""Drives vLLM's scheduler through one trace and writes down what it does; record.py tells the order of operations."""
# ruff: noqa: E402 (the environment must be set before vLLM is imported)

import inspect
import json
import logging
import os
import tempfile
from collections import Counter, deque
from dataclasses import fields
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.WARNING)

import torch
from random_traffic import Record, Tokens
from vllm.config import (
    CacheConfig,
    DeviceConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    SpeculativeConfig,
    VllmConfig,
)
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

Config = dict[str, Any]

EOS = 2
BATCH_QUEUE_SIZE = 2
STEP_LIMIT = 5000

MODEL: Config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 1024,
    "max_position_embeddings": 16384,
    "torch_dtype": "bfloat16",
}

MTP_MODEL: Config = MODEL | {
    "architectures": ["DeepSeekMTPModel"],
    "model_type": "deepseek_v3",
    "num_nextn_predict_layers": 1,
}

ABSENT: Config = {"watermark": 0.0, "scheduler_reserve_full_isl": False}
"""What an older scheduler does whose settings have no such name."""

# What a constructor of this version takes, where that differs between versions.
_SCHEDULER_SETTINGS = {field.name for field in fields(SchedulerConfig)}
_REQUEST_ARGUMENTS = inspect.signature(Request).parameters

init_none_hash(sha256)


def missing_settings() -> Config:
    """Settings that this version's scheduler does not have, and what it does instead."""
    return {name: value for name, value in ABSENT.items() if name not in _SCHEDULER_SETTINGS}


def model_folder(model: Config | None = None) -> Path:
    """A temporary folder with a small model's config.json, all that vLLM's configuration reads."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-llama-"))
    (folder / "config.json").write_text(json.dumps(model or MODEL))
    return folder


def vllm_config(model: Path, config: Config) -> VllmConfig:
    length, caching = config["max_model_len"], config["enable_prefix_caching"]
    names = ["max_num_batched_tokens", "max_num_seqs", "enable_chunked_prefill", "policy", "watermark"]
    names += ["long_prefill_token_threshold", "scheduler_reserve_full_isl"]
    missing = missing_settings()
    if impossible := [name for name, value in missing.items() if config[name] != value]:
        raise SystemExit(f"this version of vLLM has no {', '.join(impossible)}")
    names = [name for name in names if name not in missing]
    asked = {name: config[name] for name in names}
    target = ModelConfig(model=str(model), skip_tokenizer_init=True, dtype="bfloat16", max_model_len=length)
    built = VllmConfig(
        model_config=target,
        speculative_config=speculative_config(model, target, config.get("speculative_config")),
        scheduler_config=SchedulerConfig(max_model_len=length, is_encoder_decoder=False, **asked),
        cache_config=CacheConfig(block_size=config["block_size"], enable_prefix_caching=caching),
        device_config=DeviceConfig("cpu"),
    )
    built.cache_config.num_gpu_blocks = config["num_blocks"]
    # On a CPU vLLM switches this one off, whatever was asked for.
    built.scheduler_config.async_scheduling = config["async_scheduling"]
    got = {name: getattr(built.scheduler_config, name) for name in names}
    if got != asked or built.cache_config.enable_prefix_caching != caching:
        raise SystemExit(f"vLLM changed the settings: asked for {asked}, got {got}")
    return built


def speculative_config(model: Path, target: ModelConfig, asked: Config | None) -> SpeculativeConfig | None:
    """vLLM's own, as `--speculative-config` would give it; what drafts is the small model again, or one layer of it."""
    if asked is None:
        return None
    method = asked["method"]
    others: Config = {"prompt_lookup_max": 4} if method == "ngram" else {"model": str(model)}
    if method in ("eagle", "eagle3", "mtp"):
        others["model"] = str(model_folder(MTP_MODEL if method == "mtp" else None))
    return SpeculativeConfig(
        method=method,
        num_speculative_tokens=asked["num_speculative_tokens"],
        target_model_config=target,
        target_parallel_config=ParallelConfig(),
        **others,
    )


def build_scheduler(model: Path, config: Config) -> Scheduler:
    """The scheduler vLLM picks for these settings, over one group of full-attention layers."""
    built, block = vllm_config(model, config), config["block_size"]
    spec = FullAttentionSpec(block_size=block, num_kv_heads=1, head_size=1, dtype=torch.float32)
    groups = [KVCacheGroupSpec(["layer"], spec)]
    cache = KVCacheConfig(num_blocks=config["num_blocks"], kv_cache_tensors=[], kv_cache_groups=groups)
    outputs = StructuredOutputManager(built)
    kind = built.scheduler_config.get_scheduler_cls()
    return kind(vllm_config=built, kv_cache_config=cache, structured_output_manager=outputs, block_size=block)


def is_incomplete(request: Request, in_flight: int) -> bool:
    """Whether tokens remain to be computed that were known before the step, or were to come of those `in_flight`."""
    if hasattr(request, "is_prefill_chunk"):
        return bool(request.is_prefill_chunk)
    return bool(request.num_computed_tokens < request.num_tokens + in_flight)


class LivelockError(Exception):
    """Requests of equal priority and arrival time can preempt each other for ever: of equals, vLLM takes the first."""


class Recorder:
    """Drives one scheduler through one trace. `requests` end up with the steps they really arrived at."""

    def __init__(self, model: Path, config: Config, requests: list[Record]) -> None:
        self.scheduler = build_scheduler(model, config)
        self.hasher = get_request_block_hasher(config["block_size"], sha256)
        self.asynchronous = config["async_scheduling"]
        asked = config.get("speculative_config")
        self.num_drafts = asked["num_speculative_tokens"] if asked else 0
        self.proposals: Counter[str] = Counter()
        self.verifications: Counter[str] = Counter()
        self.requests = [dict(request) for request in requests]
        self.by_id = {request["id"]: request for request in requests}
        self.coming = deque(self.requests)
        self.idle_steps = 0
        self.steps: list[Record] = []

    def run(self) -> list[Record]:
        if self.asynchronous:
            self.run_asynchronously()
        else:
            self.run_synchronously()
        self.forget_stays()
        return self.steps

    def run_synchronously(self) -> None:
        while self.coming or self.scheduler.has_unfinished_requests():
            self.add_arrivals()
            scheduled, producing = self.step()
            self.abort_gone(len(self.steps) - 1)
            self.scheduler.update_from_output(scheduled, self.output(scheduled, producing))
            if self.num_drafts and producing:
                self.scheduler.update_draft_token_ids(self.proposed(producing))

    def run_asynchronously(self) -> None:
        scheduler = self.scheduler
        batches: deque[tuple[SchedulerOutput, dict[str, bool]]] = deque()
        while self.coming or scheduler.has_requests() or batches:
            if not scheduler.has_requests() and not batches:
                self.idle_steps = max(self.idle_steps, self.coming[0]["arrival_step"] - len(self.steps))
            self.add_arrivals()
            if scheduler.has_requests():
                batches.append(self.step())
                scheduled = batches[-1][0].total_num_scheduled_tokens > 0
                if len(batches) < BATCH_QUEUE_SIZE and (scheduled or scheduler.has_requests()):
                    continue
            oldest, producing = batches.popleft()
            self.abort_gone(len(self.steps) - len(batches) - 1)
            scheduler.update_from_output(oldest, self.output(oldest, producing))

    def add_arrivals(self) -> None:
        now = len(self.steps)
        while self.coming and self.coming[0]["arrival_step"] - self.idle_steps <= now:
            request = self.coming.popleft()
            request["arrival_step"] = now
            self.scheduler.add_request(self.as_vllm(request))

    def forget_stays(self) -> None:
        for request in self.requests:
            request.pop("stays_steps", None)

    def abort_gone(self, step: int) -> None:
        """Abort those whose clients have gone while that step ran, before its output is applied, as the engine does
        (`EngineCore._process_aborts_queue`). `stays_steps`: after how many steps a client goes; whose request is over
        by then has nothing to abort.
        """
        for request in self.requests:
            if request["id"] not in self.scheduler.requests:
                continue
            stays = request.get("stays_steps", STEP_LIMIT)
            if request.get("abort_step", request["arrival_step"] + stays) <= step:
                request["abort_step"] = step
                self.scheduler.finish_requests(request["id"], RequestStatus.FINISHED_ABORTED)

    def as_vllm(self, request: Record) -> Request:
        most = request.get("max_tokens", len(request["output_token_ids"]))
        older: Config = {"eos_token_id": None} if "eos_token_id" in _REQUEST_ARGUMENTS else {}
        return Request(
            request_id=request["id"],
            prompt_token_ids=list(request["prompt_token_ids"]),
            sampling_params=SamplingParams(max_tokens=most, ignore_eos=True, stop_token_ids=[EOS], temperature=0),
            pooling_params=None,
            arrival_time=float(request["arrival_step"]),
            priority=request["priority"],
            block_hasher=self.hasher,
            **older,
        )

    def step(self) -> tuple[SchedulerOutput, dict[str, bool]]:
        """Schedules and records one step; returns it, and who gets tokens by it: not those of incomplete prompts."""
        if len(self.steps) == STEP_LIMIT:
            raise LivelockError(f"{STEP_LIMIT} steps and no end")
        requests = self.scheduler.requests
        in_flight = {name: request.num_output_placeholders for name, request in requests.items()}
        scheduled = self.scheduler.schedule()
        self.steps.append(self.observed(scheduled))
        names = scheduled.num_scheduled_tokens
        return scheduled, {name: not is_incomplete(requests[name], in_flight[name]) for name in names}

    def output(self, scheduled: SchedulerOutput, producing: dict[str, bool]) -> ModelRunnerOutput:
        """What the model gives for a step once all steps before it have been applied."""
        return ModelRunnerOutput(
            req_ids=list(producing),
            req_id_to_index={name: index for index, name in enumerate(producing)},
            sampled_token_ids=[self.sampled(name, scheduled) if gives else [] for name, gives in producing.items()],
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )

    def sampled(self, name: str, scheduled: SchedulerOutput) -> Tokens:
        """The drafts that are accepted and the token after them; past the known output (a step scheduled before a stop)
        any will do.
        """
        request = self.scheduler.requests.get(name)
        if request is None:
            return [0]
        known, index = self.by_id[name]["output_token_ids"], request.num_output_tokens
        count = 1 + self.accepted(name, scheduled)
        return [known[place] if place < len(known) else 0 for place in range(index, index + count)]

    def accepted(self, name: str, scheduled: SchedulerOutput) -> int:
        """Of the scheduled drafts. Whoever was admitted in the very step has none: vLLM pads its only token."""
        drafts = len(scheduled.scheduled_spec_decode_tokens.get(name, ()))
        cached = scheduled.scheduled_cached_reqs
        is_new = name not in cached.req_ids or name in cached.resumed_req_ids
        if not drafts or is_new:
            return 0
        choices = self.by_id[name]["accepted_drafts"]
        chosen = choices[self.verifications[name] % len(choices)]
        self.verifications[name] += 1
        return min(chosen, drafts)

    def proposed(self, producing: dict[str, bool]) -> DraftTokenIds:
        """Drafts for the next step, of everybody in this one; as many as there are to be, or as few as were found."""
        drafts = []
        for name in producing:
            choices = self.by_id[name].get("proposed_drafts", [self.num_drafts])
            drafts.append([1] * choices[self.proposals[name] % len(choices)])
            self.proposals[name] += producing[name]
        return DraftTokenIds(list(producing), drafts)

    def observed(self, scheduled: SchedulerOutput) -> Record:
        state = self.scheduler
        first = [new for new in scheduled.scheduled_new_reqs if state.requests[new.req_id].num_preemptions == 0]
        drafts = {name: len(ids) for name, ids in scheduled.scheduled_spec_decode_tokens.items()}
        return ({"drafts": drafts} if self.num_drafts else {}) | {
            "step": len(self.steps),
            "scheduled": [[name, tokens] for name, tokens in scheduled.num_scheduled_tokens.items()],
            "preempted": sorted(scheduled.preempted_req_ids or ()),
            "cached_tokens_at_admission": {new.req_id: new.num_computed_tokens for new in first},
            "running": [request.request_id for request in state.running],
            "waiting": [request.request_id for request in state.waiting],
            "free_blocks": state.kv_cache_manager.block_pool.get_num_free_blocks(),
        }
