"""Designs of the KV lab on vLLM's own server, a fresh one for each engine: what its counters say was found is what
the audit's arithmetic says, phase by phase and request by request.

    python tests/vllm/live_lab.py --vllm PYTHON --seed S
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from server import ENVIRONMENT, MODEL

MAIN = Path(__file__).parents[2] / "main.py"
KNOWN_TO_ALL = MODEL | {"vocab_size": 32768}
"""Prompts are made of ids that larger models have, too."""
FLAGS = (
    "--load-format dummy --skip-tokenizer-init --enforce-eager --served-model-name tiny --max-model-len 2048 "
    "--block-size 32 --num-gpu-blocks-override 1500 --max-num-seqs 32"
)
DESIGNS = {
    "paired_prefix_cache": "family: shared_prefix\nwarm_up: same\norder: alternate\nprefix_tokens: 500\n",
    "isolated_neutral_warmup": "family: variants\nwarm_up: neutral\nprefix_tokens: 333\norder: cold_first\n",
    "concurrency_sweep": (
        "family: shared_prefix\ncold: unique_prompts\nisolation: same_engine\nwarm_up: neutral\nprefix_tokens: 500\n"
        "vary:\n  concurrency: [1, 8]\n"
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, help="keep the folders of the runs there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        faults = [fault for name in DESIGNS for fault in run(name, folder, asked.vllm.absolute(), asked.seed)]
    for fault in faults:
        print(fault, flush=True)
    return 1 if faults else 0


def run(name: str, folder: Path, python: Path, seed: int) -> list[str]:
    """Run one design; what is not as the audit says."""
    model = folder / "tiny"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(KNOWN_TO_ALL))
    design = folder / f"{name}.yaml"
    design.write_text(
        f"question: Is what is found cached what the audit expects?\nserver: vllm serve {model} {FLAGS}\n"
        f"gpu: h100-sxm\nrequests: 12\noutput_tokens: 8\nrepeats: 2\nseed: {seed}\n{DESIGNS[name]}"
    )
    words = ["lab", "run", str(design), "--backend", "local", "--out", str(folder / name), "--quiet", "--no-plot"]
    start = f"{python} -m vllm.entrypoints.openai.api_server"
    subprocess.run([sys.executable, str(MAIN), *words, "--start", start], check=True, env=os.environ | ENVIRONMENT)
    return list(compared(name, folder / name))


def compared(name: str, folder: Path) -> list[str]:
    """The differences between the server's counters, its answers and the audit; says how much was compared."""
    phases = [json.loads(line) for line in (folder / "phases.jsonl").read_text().splitlines()]
    requests = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    faults, known, hits = [], 0, 0
    for row in phases:
        where = f"{name}: point {row['point']}, repeat {row['repeat']}, {row['phase']}"
        if row["counters"] != "direct" or row["completed"] != row["requests"]:
            faults.append(f"{where}: {row['completed']} of {row['requests']} requests, counters {row['counters']}")
        looked_up = 0 if row["phase"] == "cold" and row["prefix_queries"] == 0 else row["prompt_tokens"]
        if row["prefix_queries"] != looked_up:
            faults.append(f"{where}: {row['prefix_queries']:.0f} tokens looked up of {row['prompt_tokens']}")
        if row["cached_tokens"] != row["prefix_hits"]:
            faults.append(
                f"{where}: answers tell of {row['cached_tokens']} cached tokens, {row['prefix_hits']:.0f} counted"
            )
        if row["expected_hit_tokens"] is not None:
            known, hits = known + 1, hits + row["expected_hit_tokens"]
            if row["prefix_hits"] != row["expected_hit_tokens"]:
                faults.append(f"{where}: {row['prefix_hits']:.0f} tokens hit, {row['expected_hit_tokens']} expected")
    asked = [row for row in requests if row["expected_hit_tokens"] is not None]
    wrong = [row for row in asked if row["cached_tokens"] != row["expected_hit_tokens"]]
    faults += [f"{name}: request {row['request']} of {row['phase']}: {row['cached_tokens']}" for row in wrong]
    if not hits:
        faults.append(f"{name}: nothing was expected to be found")
    print(
        f"{name}: {known} of {len(phases)} phases and {len(asked)} of {len(requests)} requests known by arithmetic, "
        f"{hits:,} tokens hit: {'as expected' if not faults else 'NOT as expected'}",
        flush=True,
    )
    return faults


if __name__ == "__main__":
    sys.exit(main())
