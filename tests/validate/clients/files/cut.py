"""Cut what a tool wrote to what a fixture wants: no texts, no chunks, no metrics that nobody reads, no folders.

``python cut.py FILE OUT``: JSON by what its keys are, all else as text.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DROPPED = {
    "request", "response", "response_chunks", "request_args", "output", "warmup_metrics", "text", "image", "video",
    "audio", "tool_call", "turns", "environment", "scheduler_state", "scheduler_metrics", "warnings", "pdf",
    "python_version", "platform", "conclusions", "api_routes", "openai_paths", "output_metrics",
    "input_metrics", "prompt_tokens_per_second", "tokens_per_second", "request_concurrency",
    "output_tokens_per_iteration", "iter_tokens_per_iteration", "time_to_first_output_token_ms",
    "request_dispatch_delay", "request_scheduled_latency", "turn_predecessor_delay", "turn_scheduling_delay",
    "root_dispatch_delay", "request_streaming_iterations_count", "total_token_count", "slo_attainment",
    "time_to_last_round_trip_ms", "avg_round_trip_time_ms", "request_goodput", "mean_ci", "percentile_cis",
    "cli_command", "run_info", "telemetry_data", "profile", "constraints", "data",
}  # fmt: skip
KEPT = {"text": "input_tokens", "output": "mean", "request": "never"}
"""A mapping under such a key stays if it holds this."""


def cut(value: Any) -> Any:
    """A copy without them."""
    if isinstance(value, list):
        return [cut(item) for item in value]
    if not isinstance(value, dict):
        return value
    stays = {
        key: item
        for key, item in value.items()
        if key not in DROPPED or (isinstance(item, dict) and KEPT.get(key) in item)
    }
    return {key: cut(item) for key, item in stays.items()}


def main(source: Path, target: Path) -> None:
    """Folders of the machine that ran the tool become their last part."""
    text = source.read_text(encoding="utf-8").replace("http://127.0.0.1", "host")
    text = re.sub(r"(?<!\w)/[\w./-]*/(?=[\w.-]+)", "", text)
    if source.suffix == ".json":
        text = json.dumps(cut(json.loads(text)), separators=(",", ":")) + "\n"
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
