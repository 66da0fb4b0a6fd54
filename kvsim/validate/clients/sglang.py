"""Results of SGLang's ``bench_serving``: a JSON line a run, appended to its file.

It is vLLM's client of 2024 with names of its own. When requests were sent is in no version of the file.
"""

from __future__ import annotations

from kvsim.fields import Fields
from kvsim.validate.clients.bench_serve import rate_of, run_of
from kvsim.validate.clients.definitions import COUNTS_ANSWERED
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import Traffic

NAME = "sglang bench_serving"


def is_sglang(values: dict[str, object]) -> bool:
    return "completed" in values and ("mean_e2e_latency_ms" in values or "total_output_tokens_retokenized" in values)


def read_sglang(fields: Fields) -> ClientResult:
    """Gaps are exponential. Without ``--output-details`` a file counts the requests answered, and no others."""
    if fields.get("request_rate") == "trace":
        raise fields.error("request_rate", "the times of a trace are not in the file: only rates are read")
    traffic = Traffic(
        requests=0,
        rate_per_s=rate_of(fields),
        prompt_tokens=0,
        output_tokens=0,
        max_in_flight=fields.maybe_count("max_concurrency") or None,
    )
    counted = () if fields.get("errors") is not None else (COUNTS_ANSWERED,)
    model = fields.text("server_info.model_path")
    return run_of(fields, NAME, traffic, "e2e_latency", model, assumed=counted)
