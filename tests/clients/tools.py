"""The load clients, and how each is told to send a few requests to a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODEL = "meta-llama/Llama-3.2-1B-Instruct"
PROMPT, ANSWER, REQUESTS, RATE = 64, 16, 20, 10
"""Tokens of each, how many, and how many a second."""

VLLM_BENCH = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""``vllm bench serve``, whose program asks for the version of a package ``vllm``, which the one for CPUs is not."""


@dataclass(frozen=True)
class Run:
    """Where one client runs."""

    python: Path
    """Of the environment that has it."""
    url: str
    tokenizer: Path
    """A folder."""
    out: Path
    """A folder, empty: what it writes."""
    requests: int = REQUESTS

    @property
    def program(self) -> Path:
        """The folder of the environment's programs."""
        return self.python.parent


@dataclass(frozen=True)
class Tool:
    """One client."""

    name: str
    environment: str
    """Of those that ``run.py`` is told."""
    command: Callable[[Run], list[str]]
    result: str
    """The file that says most, below the folder."""
    variables: Mapping[str, str] = field(default_factory=dict)


def _aiperf(run: Run) -> list[str]:
    return [str(run.program / "aiperf"), "profile", "--model", MODEL, "--url", run.url,
            "--endpoint-type", "completions", "--streaming", "--tokenizer", str(run.tokenizer),
            "--synthetic-input-tokens-mean", str(PROMPT),
            "--output-tokens-mean", str(ANSWER), "--request-count", str(run.requests), "--request-rate", str(RATE),
            "--extra-inputs", "ignore_eos:true", "--use-server-token-count", "--no-gpu-telemetry", "--ui", "none",
            "--artifact-dir", str(run.out)]  # fmt: skip


def _guidellm(run: Run) -> list[str]:
    return [str(run.program / "guidellm"), "run",
            "--backend", f"kind=openai_http,target={run.url},model={MODEL},request_format=/v1/completions",
            "--tokenizer", f"kind=huggingface_auto,model={run.tokenizer}",
            "--data", f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={ANSWER}",
            "--profile", f"kind=poisson,rate={RATE}", "--constraint", f"kind=max_requests,count={run.requests}",
            "--output", f"kind=json,path={run.out / 'benchmarks.json'}", "--disable-progress"]  # fmt: skip


def _inference_perf(run: Run) -> list[str]:
    config = run.out.parent / "inference-perf.json"
    seconds = max(1, run.requests // RATE)
    length = {"type": "fixed", "std_dev": 0, "total_count": 100}
    config.write_text(
        json.dumps({
            "api": {"type": "completion", "streaming": True},
            "data": {
                "type": "random",
                "input_distribution": length | {"mean": PROMPT, "min": PROMPT, "max": PROMPT},
                "output_distribution": length | {"mean": ANSWER, "min": ANSWER, "max": ANSWER},
            },
            "load": {"type": "poisson", "num_workers": 1, "stages": [{"rate": RATE, "duration": seconds}]},
            "server": {"type": "vllm", "model_name": MODEL, "base_url": run.url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(run.tokenizer)},
            "report": {"request_lifecycle": {"summary": True, "per_stage": True, "per_request": True}},
            "storage": {"local_storage": {"path": str(run.out)}},
        }),
        encoding="utf-8",
    )  # fmt: skip
    return [str(run.program / "inference-perf"), "-c", str(config)]


def _bench_flags(run: Run) -> list[str]:
    return ["--base-url", run.url, "--model", MODEL, "--tokenizer", str(run.tokenizer),
            "--random-input-len", str(PROMPT), "--random-output-len", str(ANSWER), "--num-prompts", str(run.requests),
            "--request-rate", str(RATE), "--disable-tqdm"]  # fmt: skip


def _vllm(run: Run) -> list[str]:
    return [str(run.python), "-c", VLLM_BENCH, *_bench_flags(run), "--backend", "vllm", "--endpoint", "/v1/completions",
            "--dataset-name", "random", "--ignore-eos", "--save-result", "--save-detailed",
            "--result-dir", str(run.out), "--result-filename", "vllm.json", "--ready-check-timeout-sec", "0",
            "--percentile-metrics", "ttft,tpot,itl,e2el"]  # fmt: skip


def _sglang(run: Run) -> list[str]:
    return [str(run.python), "-m", "sglang.bench_serving", *_bench_flags(run), "--backend", "vllm",
            "--dataset-name", "random-ids", "--random-range-ratio", "1.0", "--warmup-requests", "0", "--output-details",
            "--output-file", str(run.out / "sglang.jsonl")]  # fmt: skip


OFFLINE = {"HF_HUB_OFFLINE": "1"}
TOOLS = (
    Tool("aiperf", "clients", _aiperf, "profile_export_aiperf.json"),
    Tool("guidellm", "clients", _guidellm, "benchmarks.json", OFFLINE),
    Tool("inference-perf", "inference-perf", _inference_perf, "stage_0_lifecycle_metrics.json", OFFLINE),
    Tool("vllm", "vllm", _vllm, "vllm.json", OFFLINE),
    Tool("sglang", "sglang", _sglang, "sglang.jsonl", OFFLINE),
)
"""AIPerf takes a folder for a tokenizer only where it may ask a hub for names, which it then does not."""
