"""The sample traces that kvsim ships: ``python -m kvsim.workload.samples trace`` writes them again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kvsim.config.schema import AgentTrace, PdTrace
from kvsim.workload.graph import RequestGraph
from kvsim.workload.synthetic.agent import Spawning, agent_graph
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Workload
from kvsim.workload.writers import write_trace


@dataclass(frozen=True)
class Sample:
    """One file: its schema, its size, and how long its prompts are."""

    file: str
    format: str
    num_requests: int
    system_prompt_tokens: int
    new_tokens_mean: float
    seed: int
    rate_per_s: float = 0.4


SAMPLES = (
    Sample("azure_sample.csv", "azure", 40, 600, 400, 1),
    # Slow enough for whole seconds to tell all requests apart.
    Sample("burstgpt_v1_sample.csv", "burstgpt_v1", 40, 600, 400, 5, rate_per_s=0.04),
    Sample("burstgpt_sample.csv", "burstgpt", 40, 600, 400, 6),
    Sample("mooncake_sample.jsonl", "mooncake", 40, 2600, 900, 2),
    Sample("splitwise_sample.csv", "splitwise", 40, 600, 400, 7),
    Sample("bailian_sample.jsonl", "bailian", 40, 200, 90, 8),
    Sample("aiperf_sample.jsonl", "aiperf", 40, 2600, 900, 9),
    Sample("agentic_mooncake_sample.jsonl", "agentic_mooncake", 40, 600, 400, 10, rate_per_s=1.0),
    # Token ids are written out, so this one is short.
    Sample("sharegpt_sample.jsonl", "sharegpt", 20, 64, 48, 4),
    Sample("generic_sample.csv", "generic", 40, 600, 400, 4),
)


def write_samples(folder: str | Path) -> list[Path]:
    """Writes every sample into ``folder`` and returns the paths; the same bytes each time."""
    paths = []
    for sample in SAMPLES:
        paths.append(Path(folder) / sample.file)
        if sample.format == "agentic_mooncake":
            workload = _agents(sample)
        else:
            workload = chat(_traffic(sample), sample.num_requests, sample.rate_per_s, sample.seed)
        if sample.format == "aiperf":
            workload = _waiting(workload)
        write_trace(workload, paths[-1], sample.format)
    for name, lines in TOLD.items():
        paths.append(Path(folder) / name)
        paths[-1].write_text(lines(), encoding="utf-8", newline="")
    return paths


def _agents(sample: Sample) -> Workload:
    """A few agents, some of whose turns are followed by sub-agents."""
    traffic = AgentTrace(
        num_sessions=1,
        turns_min=3,
        turns_max=8,
        tool_def_tokens=sample.system_prompt_tokens,
        tool_result_min_tokens=16,
        tool_result_max_tokens=int(sample.new_tokens_mean),
        reasoning_tokens=64,
        num_tool_sets=2,
        num_system_prompts=3,
        qps=1,
        seed=None,
    )
    return agent_graph(traffic, sample.num_requests, sample.rate_per_s, sample.seed, Spawning(share=0.3, subagents=2))


def _weka() -> str:
    """One agent, who lets a sub-agent look something up, and goes on once it has ended."""

    def call(time_s: float, prompt: int, answer: int, first_id: int, api_s: float) -> dict[str, object]:
        blocks = [*range(6), *range(first_id, first_id + prompt // 64 - 6)]
        kind = {"t": time_s, "type": "s", "model": "main", "in": prompt, "out": answer, "hash_ids": blocks}
        return {**kind, "input_types": ["text"], "output_types": ["text"], "stop": "tool_use", "api_time": api_s}

    spawned = {
        "t": 14.5,
        "type": "subagent",
        "agent_id": "agent_001",
        "subagent_type": "Explore",
        "duration_ms": 9500,
        "total_tokens": 2100,
        "tool_use_count": 1,
        "status": "completed",
        "requests": [call(14.5, 900, 60, 100, 3.0), call(19.0, 1200, 80, 100, 5.0)],
        "models": ["small"],
        "tool_tokens": 300,
        "system_tokens": 84,
    }
    requests = [call(0.0, 1000, 120, 6, 4.0), call(6.5, 1300, 200, 6, 8.0), spawned, call(25.0, 1700, 90, 6, 3.5)]
    document = {"id": "conversation-1", "models": ["main", "small"], "block_size": 64, "hash_id_scope": "local"}
    return json.dumps({**document, "tool_tokens": 300, "system_tokens": 84, "requests": requests}) + "\n"


def _aiperf_turns() -> str:
    """A chat, and an agent that spawns two others and waits for them."""

    def turn(text: str, answer: int, **more: object) -> dict[str, object]:
        return {"messages": [{"role": "user", "content": text * 12}], "max_tokens": answer, **more}

    sessions: list[dict[str, object]] = [
        {
            "session_id": "chat",
            "turns": [
                {"role": "system", "text": "You are a careful assistant who answers briefly. " * 8},
                {"text": "What is a prefix cache? ", "output_length": 90},
                {"text": "And when does it not help? ", "delay": 4000, "output_length": 60},
            ],
        },
        {
            "session_id": "planner",
            "turns": [
                turn("Plan the work. ", 40, spawns=["reader", "tester"]),
                turn("Here is what they found. ", 120, delay=250),
            ],
        },
        {"session_id": "reader", "turns": [turn("Read the sources. ", 50), turn("Read on. ", 30, delay=1500)]},
        {"session_id": "tester", "turns": [turn("Run the tests. ", 20)]},
    ]
    return "".join(json.dumps(session) + "\n" for session in sessions)


def _vllm_log() -> str:
    """Four requests as a server of vLLM 0.9 logs them."""
    lines = ["INFO 01-02 03:04:01 [api_server.py:1351] vLLM API server version 0.9.2\n"]
    head = list(range(100, 148))
    for place, (second, tail, most) in enumerate([(2, 20, 64), (3, 37, 128), (3, 52, 64), (7, 21, 32)]):
        ids = head + list(range(1000 * place, 1000 * place + tail))
        params = f"SamplingParams(n=1, temperature=0.7, ignore_eos=False, max_tokens={most}, min_tokens=0)"
        lines.append(
            f"INFO 01-02 03:04:{second:02d} [logger.py:39] Received request cmpl-{place}-0: prompt: 'a prompt', "
            f"params: {params}, prompt_token_ids: {ids}, lora_request: None, prompt_adapter_request: None.\n"
        )
        lines.append(f'INFO:     127.0.0.1:5000{place} - "POST /v1/completions HTTP/1.1" 200 OK\n')
    return "".join(lines)


TOLD: Mapping[str, Callable[[], str]] = {
    "weka_sample.json": _weka,
    "aiperf_turns_sample.jsonl": _aiperf_turns,
    "vllm_log_sample.log": _vllm_log,
}
"""Schemas that kvsim reads and does not write."""


def _waiting(workload: Workload) -> Workload:
    """Chats as a closed loop: a turn waits for the answer before it, which is taken to last as it would."""
    after, think_s = np.full(len(workload), -1, dtype=np.int64), np.zeros(len(workload))
    latest: dict[int, int] = {}
    pace_s = assumed_pace_s(None)
    for request in workload:
        row, before = request.request_id, latest.get(request.session_id)
        if before is not None:
            answered_s = workload.arrival_s[before] + workload.output_tokens[before] * pace_s
            after[row], think_s[row] = before, max(request.arrival_s - answered_s, 0.0)
        latest[request.session_id] = row
    return replace(workload, graph=RequestGraph.turns(after, think_s))


def _traffic(sample: Sample) -> PdTrace:
    """A few conversations over three system prompts, most of them carrying their history."""
    return PdTrace(
        kind="chat",
        arrivals="poisson",
        num_requests=None,
        num_sessions=None,
        turns_per_session=4,
        num_system_prompts=3,
        system_prompt_tokens=sample.system_prompt_tokens,
        prompt_tokens_min=None,
        prompt_tokens_max=None,
        new_tokens_mean=sample.new_tokens_mean,
        new_tokens_cv=0.5,
        initial_context_tokens=None,
        history_tokens_mean=sample.new_tokens_mean,
        output_tokens_mean=sample.new_tokens_mean / 2,
        output_tokens_cv=0.5,
        think_time_s=10,
        num_shared_docs=0,
        num_rag_chunks=0,
        doc_zipf_alpha=0,
        qps=None,
        seed=None,
    )


if __name__ == "__main__":
    for written in write_samples(sys.argv[1]):
        print(written)
