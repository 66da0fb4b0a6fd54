"""Recordings through kvsim's scheduler: vLLM's own where they are at hand, and those of the naive reference."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from block_by_block import NaiveRequest, NaiveScheduler, Step
from hypothesis import given, settings
from hypothesis import strategies as st
from places import RECORDINGS

from kvsim.errors import WorkloadError
from kvsim.validate.recording import Recording, read_recording
from kvsim.validate.replay import first_difference


def test_every_step_of_vllm_s_scheduler_is_reproduced() -> None:
    files = sorted(RECORDINGS.glob("*.json.gz"))
    if not files:
        pytest.skip(f"no recordings in {RECORDINGS} (beside KVSIM_DATA)")
    for file in files:
        assert first_difference(read_recording(file)) is None, file.name


def random_config(rng: Random) -> dict[str, Any]:
    block_size = rng.choice([1, 2, 4])
    num_blocks = rng.randint(12, 40)
    chunked = rng.random() < 0.8
    max_model_len = rng.randint(8, (num_blocks - 1) * block_size)
    return {
        "num_blocks": num_blocks,
        "block_size": block_size,
        "max_num_batched_tokens": rng.choice([3, 8, 16, 64]) if chunked else max_model_len,
        "max_num_seqs": rng.randint(1, 8),
        "max_model_len": max_model_len,
        "enable_prefix_caching": rng.random() < 0.85,
        "enable_chunked_prefill": chunked,
        "policy": rng.choice(["fcfs", "priority"]),
        "watermark": rng.choice([0.0, 0.0, 0.1, 0.25]),
        "long_prefill_token_threshold": rng.choice([0, 0, 2, 5]),
        "scheduler_reserve_full_isl": rng.random() < 0.8,
        "async_scheduling": rng.random() < 0.5,
    }


def random_requests(rng: Random, block_size: int, max_model_len: int) -> list[dict[str, Any]]:
    """Turns that carry earlier answers, finished or not, bursts of equal prompts, whole numbers of blocks."""
    found: list[dict[str, Any]] = []
    step = 0

    def tokens(count: int) -> list[int]:
        return [rng.randrange(3) for _ in range(count)]

    while len(found) < 12:
        step += rng.choice([0, 0, 1, 4])
        prompt = tokens(rng.choice([1, block_size, 2 * block_size, rng.randint(1, 6 * block_size)]))
        if found and rng.random() < 0.5:
            earlier = rng.choice(found)
            prompt = earlier["prompt_token_ids"] + earlier["output_token_ids"] + tokens(rng.randrange(3))
        for _ in range(rng.choice([1, 1, 1, 3])):
            if len(prompt) < max_model_len:
                answer = tokens(rng.randint(1, 3 * block_size))
                row = {"arrival_step": step, "id": f"r{len(found)}", "priority": rng.randrange(3)}
                found.append({**row, "prompt_token_ids": prompt, "output_token_ids": answer})
            else:
                prompt = prompt[: max_model_len - 1]
    return found


def recorded(rng: Random) -> dict[str, Any]:
    """What the naive reference does with random token ids."""
    config = random_config(rng)
    requests = random_requests(rng, config["block_size"], config["max_model_len"])
    scheduler = NaiveScheduler(
        config["num_blocks"] - 1, config["block_size"], config["max_num_batched_tokens"], config["max_num_seqs"],
        caching=config["enable_prefix_caching"], chunked=config["enable_chunked_prefill"],
        threshold=config["long_prefill_token_threshold"],
        watermark_blocks=int(config["watermark"] * config["num_blocks"]),
        reserve_whole=config["scheduler_reserve_full_isl"], by_priority=config["policy"] == "priority",
        asynchronous=config["async_scheduling"],
    )  # fmt: skip
    arriving = [_naive(request, config["max_model_len"]) for request in requests]
    steps: list[dict[str, Any]] = []
    # As in vLLM, two requests of equal priority and arrival may preempt each other for ever.
    while (arriving or scheduler.waiting or scheduler.running) and len(steps) < 1000:
        while arriving and arriving[0].arrival <= len(steps):
            scheduler.submit(arriving.pop(0))
        steps.append(_step(len(steps), scheduler.step()))
    return {"engine": "the naive reference", "config": config, "requests": requests, "steps": steps}


def _naive(request: dict[str, Any], max_model_len: int) -> NaiveRequest:
    prompt = request["prompt_token_ids"]
    whole = (prompt + request["output_token_ids"])[:max_model_len]
    return NaiveRequest(request["id"], request["arrival_step"], whole, len(prompt), request["priority"])


def _step(number: int, step: Step) -> dict[str, Any]:
    return {
        "step": number,
        "scheduled": [list(pair) for pair in step.scheduled],
        "preempted": step.preempted,
        "cached_tokens_at_admission": step.cached_at_admission,
        "running": step.running,
        "waiting": step.waiting,
        "free_blocks": step.free_blocks,
    }


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False))
def test_random_token_ids_give_the_reference_s_decisions(rng: Random) -> None:
    assert first_difference(Recording.model_validate(recorded(rng))) is None


def test_the_first_difference_is_named() -> None:
    document = recorded(Random(3))
    document["steps"][4]["free_blocks"] += 1
    document["steps"][6]["running"] = []
    found = first_difference(Recording.model_validate(document))
    assert found is not None and (found.step, found.field) == (4, "free_blocks")
    assert found.recorded == document["steps"][4]["free_blocks"] == found.found + 1


def broken(change: str) -> bytes:
    document = recorded(Random(3))
    match change:
        case "no steps":
            del document["steps"]
        case "policy":
            document["config"]["policy"] = "lottery"
        case "twice":
            document["requests"][1]["id"] = document["requests"][0]["id"]
        case "order":
            document["requests"][0]["arrival_step"] = 99
        case "long":
            document["requests"][0]["prompt_token_ids"] = [0] * document["config"]["max_model_len"]
        case "steps":
            document["steps"][3]["step"] = 7
        case "huge":
            document["config"]["block_size"] = 10**30
        case "empty":
            document["requests"][2]["output_token_ids"] = []
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (broken("no steps"), "steps is missing"),
        (broken("policy"), "config.policy"),
        (broken("twice"), "'r0' stands twice"),
        (broken("order"), "allowed: in order"),
        (broken("long"), "allowed: fewer than max_model_len"),
        (broken("steps"), "steps.3.step: 7; allowed: 3"),
        (broken("huge"), "config.block_size = 1000.*: must be a whole number from 1 to 1,000,000"),
        (broken("empty"), "requests.2.output_token_ids"),
        (b"[1, 2]", "valid dictionary"),
        (b"nonsense", "is not JSON"),
        (gzip.compress(broken(""))[:200], "cut short"),
        (b"\x1f\x8bgarbage", "cannot be read"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "made.json.gz"
    file.write_bytes(content)
    with pytest.raises(WorkloadError, match=message) as refused:
        read_recording(file)
    assert str(refused.value).startswith(str(file)) and "\n" not in str(refused.value)
