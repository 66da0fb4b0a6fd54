"""Results of inference-perf: a JSON for every stage, and beside it the configuration that it ran with.

What it sends was read from its source (``ConstantLoadTimer``, ``SharedPrefixDataGenerator``, autumn 2025).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import SharedPrompts, Traffic
from kvsim.validate.files import read_yaml

NAME = "inference-perf"
CONFIGS = ("load.yaml", "config.yaml")
TIMEOUT_S = 300.0
"""Time-out of the client's HTTP library, unless it is told another."""
GROUPS, PER_GROUP, HEAD_TOKENS = 10, 10, 100
"""The client's defaults for prompts with a shared head."""
LOADS = ("constant", "poisson")


@dataclass(frozen=True)
class Client:
    """What a configuration says of it; as it was written where there is none."""

    file: str | None = None
    max_in_flight: int | None = None
    scaled: bool = True
    """Gaps are exponential in both of ``LOADS``; those of ``constant`` sum to the duration."""
    timeout_s: float = TIMEOUT_S
    shared: SharedPrompts | None = None
    output_tokens: float | None = None
    """Tokens of every answer, where the server is told to ignore the end of a text."""
    model: str | None = None

    @property
    def assumed(self) -> tuple[str, ...]:
        if self.file is None:
            return (f"no {' or '.join(CONFIGS)} beside the file", "prompts share nothing, no limit in flight")
        return () if self.shared is not None else ("prompts share nothing",)

    def after_others(self) -> Client:
        """The client in a stage that is not the first."""
        return self if self.shared is None else replace(self, shared=replace(self.shared, sent_before=True))


def is_stage(values: dict[str, object]) -> bool:
    return "load_summary" in values and "successes" in values


def stage_number(path: Path) -> int:
    """``stage_3_lifecycle_metrics.json`` is 3."""
    found = re.search(r"\d+", path.stem)
    return int(found.group()) if found is not None else 0


def read_client(folder: Path) -> Client:
    """Raises ``ConfigError`` (file, key, value, what is allowed)."""
    path = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    if path is None:
        return Client()
    fields = Fields(path.name, read_yaml(path))
    if not isinstance(fields.get("load"), dict):
        raise ConfigError(f"{path.name}: no section 'load', so no configuration of {NAME}")
    workers, each = fields.maybe_count("load.num_workers"), fields.maybe_count("load.worker_max_concurrency")
    kind = fields.get("load.type")
    if kind not in (None, *LOADS):
        raise fields.error("load.type", f"loads that are read: {', '.join(LOADS)}")
    data = fields.within("data.shared_prefix")
    is_shared = isinstance(data.values, dict) and fields.get("data.type") in (None, "shared_prefix")
    timeout_s = fields.maybe("load.request_timeout")
    return Client(
        file=path.name,
        max_in_flight=workers * each if workers and each else None,
        scaled=kind != "poisson",
        timeout_s=timeout_s or TIMEOUT_S,
        shared=_shared(data) if is_shared else None,
        output_tokens=_outputs(data) if is_shared and fields.get("server.ignore_eos") is True else None,
        model=fields.text("server.model_name"),
    )


def _shared(data: Fields) -> SharedPrompts:
    """Keys by which later versions know the sizes had no effect; where both are absent its defaults hold."""
    if data.get("enable_multi_turn_chat") and data.get("num_groups") is not None:
        raise data.error("enable_multi_turn_chat", "conversations of several turns are not read")
    sizes = {"num_groups": GROUPS, "num_prompts_per_group": PER_GROUP, "system_prompt_len": HEAD_TOKENS}
    groups, per_group, head = (default if data.get(key) is None else data.count(key) for key, default in sizes.items())
    if not groups or not per_group:
        raise data.error("num_prompts_per_group" if groups else "num_groups", "must be 1 or more")
    return SharedPrompts(groups, per_group, head)


def _outputs(data: Fields) -> float | None:
    if any(data.get(key) for key in ("output_len_std", "output_distribution")):
        return None
    return data.maybe("output_len") or None


def read_stage(fields: Fields, client: Client) -> ClientResult:
    """A stage; its ``time_per_output_token`` is half the truth: TPOT is (E2E - TTFT) / (output - 1) of the means."""
    completed, failures = fields.count("successes.count"), fields.maybe_count("failures.count") or 0

    def times(name: str) -> dict[str, float]:
        keys = {"p50": "median"} | {percent: percent for percent in PERCENTS[1:]} | {"mean": "mean"}
        return fields.times({key: f"successes.latency.{name}.{of}" for key, of in keys.items()}, 1.0)

    ttft_s, e2e_s = times("time_to_first_token"), times("request_latency")
    outputs = client.output_tokens or fields.mean_over(completed, "successes.output_len.mean")
    known = outputs > 1 and "mean" in ttft_s and "mean" in e2e_s
    requests_per_s = fields.mean_over(completed, "successes.throughput.requests_per_sec")
    return ClientResult(
        name=fields.file,
        client=NAME,
        traffic=Traffic(
            requests=fields.maybe_count("load_summary.count") or completed + failures,
            rate_per_s=fields.number("load_summary.requested_rate", least=1e-6),
            scaled=client.scaled,
            prompt_tokens=fields.mean_over(completed, "successes.prompt_len.mean"),
            output_tokens=outputs,
            max_in_flight=client.max_in_flight,
            timeout_s=client.timeout_s,
            shared=client.shared,
        ),
        completed=completed,
        failures=failures,
        requests_per_s=requests_per_s,
        output_tokens_per_s=_token_rate(fields, client, requests_per_s) if completed else 0.0,
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tpot_mean_s=(e2e_s["mean"] - ttft_s["mean"]) / (outputs - 1) if known else None,
        tpot_weighs_tokens=True,
        model=client.model,
        assumed=client.assumed,
    )


def _token_rate(fields: Fields, client: Client, requests_per_s: float) -> float:
    """Tokens/s; the client's own figure counts tokens of the text as encoded again."""
    if client.output_tokens is not None:
        return requests_per_s * client.output_tokens
    return fields.number("successes.throughput.output_tokens_per_sec")


def stages_of(folder: Path) -> list[Path]:
    """In order."""
    return sorted(folder.glob("stage_*.json"), key=lambda path: (stage_number(path), path.name))
