"""vLLM's engine without a server, as a program of its own: what it is asked stands in a file, and so does its answer.

It imports nothing of kvsim, and runs where vLLM is installed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(asked: Path, answered: Path) -> None:
    """``asked``: ``model``, ``arguments`` of ``vllm serve``, and ``prompts``: token ids and the answer's length of
    each.

    ``answered``: ``ready_s``, ``duration_s`` and ``rows`` in the same order, in seconds from when all were given.
    """
    given = json.loads(asked.read_text(encoding="utf-8"))
    from vllm import LLM, SamplingParams
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    began_s = time.monotonic()
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    arguments = parser.parse_args(["--model", given["model"], *given["arguments"]])
    engine = LLM(**vars(EngineArgs.from_cli_args(arguments)) | {"disable_log_stats": False})
    prompts = [{"prompt_token_ids": ids} for ids, _ in given["prompts"]]
    lengths = [SamplingParams(max_tokens=tokens, ignore_eos=True, detokenize=False) for _, tokens in given["prompts"]]
    ready_s = time.monotonic() - began_s
    began_at, began_s = time.time(), time.monotonic()
    outputs = engine.generate(prompts, lengths, use_tqdm=False)
    found = {
        "ready_s": ready_s,
        "duration_s": time.monotonic() - began_s,
        "rows": [_row(output, began_at) for output in outputs],
    }
    answered.write_text(json.dumps(found), encoding="utf-8")


def _row(output: Any, began_at: float) -> dict[str, float | int | None]:
    """The engine's own times: its front end's of arrival, and its core's between tokens."""
    times = output.metrics
    sent_s = times.arrival_time - began_at
    first_s = sent_s + times.first_token_latency
    return {
        "sent_s": sent_s,
        "first_token_s": first_s,
        "finish_s": first_s + times.last_token_ts - times.first_token_ts,
        "prompt_tokens": len(output.prompt_token_ids),
        "output_tokens": times.num_generation_tokens,
        "cached_tokens": output.num_cached_tokens,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
