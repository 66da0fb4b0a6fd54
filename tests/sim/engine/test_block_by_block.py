"""The naive reference itself: it reproduces recordings of the real scheduler, where they are at hand."""

from __future__ import annotations

import gzip
import json

import pytest
from block_by_block import NaiveRequest, NaiveScheduler
from places import RECORDINGS

NAMES = (
    "block_32",
    "budget_2048_seqs_64",
    "budget_64",
    "fcfs",
    "long_prefill_threshold",
    "no_prefix_cache",
    "no_reserve_full_isl",
    "priority",
    "roomy_1000_blocks",
    "tight_48_blocks",
    "watermark",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_step_is_reproduced(name: str) -> None:
    path = RECORDINGS / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip(f"no recording at {path} (beside KVSIM_DATA)")
    recording = json.loads(gzip.decompress(path.read_bytes()))
    config = recording["config"]
    scheduler = NaiveScheduler(
        config["num_blocks"] - 1,  # the null block is never used
        config["block_size"],
        config["max_num_batched_tokens"],
        config["max_num_seqs"],
        caching=config["enable_prefix_caching"],
        threshold=config["long_prefill_token_threshold"],
        watermark_blocks=int(config["watermark"] * config["num_blocks"]),
        reserve_whole=config["scheduler_reserve_full_isl"],
        by_priority=config["policy"] == "priority",
    )
    arriving = []
    for recorded in recording["requests"]:
        prompt, answer = recorded["prompt_token_ids"], recorded["output_token_ids"]
        request = NaiveRequest(recorded["id"], recorded["arrival_step"], prompt + answer, len(prompt))
        request.priority = recorded["priority"]
        arriving.append(request)
    for expected in recording["steps"]:
        while arriving and arriving[0].arrival <= expected["step"]:
            scheduler.submit(arriving.pop(0))
        step = scheduler.step()
        found = (
            [list(pair) for pair in step.scheduled],
            sorted(step.preempted),
            step.cached_at_admission,
            step.free_blocks,
            step.running,
            step.waiting,
        )
        assert found == (
            expected["scheduled"],
            sorted(expected["preempted"]),
            expected["cached_tokens_at_admission"],
            expected["free_blocks"],
            expected["running"],
            expected["waiting"],
        ), expected["step"]
