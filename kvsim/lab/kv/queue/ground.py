"""The server that a queue stands before: from its line to the plan of one plain engine."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.errors import CapacityError, ConfigError
from kvsim.lab.kv.queue.workload_file import QueuedRequest
from kvsim.lab.simulated import COLD
from kvsim.plan.deployment import launch_of, load_deployment
from kvsim.plan.mode import PREDICT
from kvsim.plan.plan import Plan


def plan_of(line: str, gpu: str | None, seats: int | None) -> Plan:
    """One engine as ``vllm serve`` would start it; ``seats``: requests in it at most, by default the line's.

    Raises ``ConfigError`` for what keeps no room for answers.
    """
    launch = launch_of(line, None)
    if launch.engine != "vllm":
        raise ConfigError("--server: a line of SGLang; the schedulers are those of 'vllm serve MODEL ...'")
    loaded = load_deployment(launch, gpu=gpu, sets=COLD)
    plan = PREDICT.plan(loaded.config)
    _check(plan)
    if seats is None:
        return plan
    tokens = plan.colocated_settings.max_num_batched_tokens
    if seats > tokens:
        raise ConfigError(
            f"--max-concurrent-requests is {seats}; allowed: up to {tokens}, the line's max_num_batched_tokens"
        )
    return plan.with_settings("colocated", max_num_seqs=seats)


def _check(plan: Plan) -> None:
    settings = plan.colocated_settings
    for what, is_there in (
        ("data parallelism", plan.num_instances > 1),
        ("pipeline parallelism", settings.pipeline_parallel > 1),
        ("KV offloading", bool(plan.tiers)),
        ("speculative decoding", settings.speculation is not None),
        ("LoRA adapters", settings.max_loras > 0),
        ("static batches", settings.batching != "continuous"),
        ("a model whose layers keep different tokens", bool(settings.kv_groups)),
    ):
        if is_there:
            raise ConfigError(f"--server: {what} is not modelled under a KV budget; allowed: one plain engine")


def check_lengths(requests: Sequence[QueuedRequest], plan: Plan) -> None:
    """Raise ``CapacityError`` where a request is longer than the model takes."""
    most = plan.colocated_settings.max_model_len
    for request in requests:
        if request.footprint_tokens > most:
            raise CapacityError(
                f"request '{request.id}': {request.footprint_tokens:,} tokens of prompt and answer; the server's "
                f"max_model_len is {most:,}"
            )
