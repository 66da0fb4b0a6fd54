"""Results of inference-perf: a JSON for every stage or one of all requests, and beside it the configuration.

What it sends was read from its source (``ConstantLoadTimer``, ``SharedPrefixDataGenerator``, autumn 2025).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.validate.clients.definitions import NO_TPOT, NO_TTFT, TPOT_ALIKE, itl_of_gaps, time_per_token_s
from kvsim.validate.clients.requests import Requests, Row, recorded_traffic, result_of
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import SharedPrompts, Traffic
from kvsim.validate.files import read_yaml

NAME = "inference-perf"
CONFIGS = ("load.yaml", "config.yaml")
TIMEOUT_S = 300.0
"""Time-out of the client's HTTP library, unless it is told another."""
GROUPS, PER_GROUP, HEAD_TOKENS = 10, 10, 100
"""The client's defaults for prompts with a shared head."""
LOADS = ("constant", "poisson", "concurrent")


@dataclass(frozen=True)
class Client:
    """What a configuration says of it; as it was written where there is none."""

    file: str | None = None
    max_in_flight: int | None = None
    scaled: bool = True
    """Gaps are exponential in both loads with a rate; those of ``constant`` sum to the duration."""
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
    """Sizes by the names of today, by older ones, or as the client has them."""
    if data.get("enable_multi_turn_chat"):
        raise data.error("enable_multi_turn_chat", "conversations of several turns are not read")
    groups = _size(data, GROUPS, "num_unique_system_prompts", "num_groups")
    per_group = _size(data, PER_GROUP, "num_users_per_system_prompt", "num_prompts_per_group")
    return SharedPrompts(groups, per_group, _size(data, HEAD_TOKENS, "system_prompt_len", least=0))


def _size(data: Fields, default: int, *names: str, least: int = 1) -> int:
    name = next((name for name in names if data.get(name) is not None), None)
    if name is None:
        return default
    found = data.count(name)
    if found < least:
        raise data.error(name, f"must be {least} or more")
    return found


def _outputs(data: Fields) -> float | None:
    if any(data.get(key) for key in ("output_len_std", "output_distribution")):
        return None
    return data.maybe("output_len") or None


def read_stage(fields: Fields, client: Client) -> ClientResult:
    """A stage. Its own TPOT counts the tokens of texts that are encoded again, in older versions twice: not taken."""
    completed, failures = fields.count("successes.count"), fields.maybe_count("failures.count") or 0
    ttft_s, e2e_s = _times(fields, "time_to_first_token"), _times(fields, "request_latency")
    outputs, is_alike = _output_tokens(fields, client, completed)
    per_token_s = time_per_token_s(ttft_s, e2e_s, outputs)
    itl_s, itl_words = itl_of_gaps(per_token_s, _times(fields, "inter_token_latency"))
    requests_per_s = fields.mean_over(completed, "successes.throughput.requests_per_sec")
    users = fields.maybe_count("load_summary.concurrency")
    rate_per_s = math.inf if users else fields.number("load_summary.requested_rate", least=1e-6)
    return ClientResult(
        name=fields.file,
        client=NAME,
        traffic=Traffic(
            requests=fields.maybe_count("load_summary.count") or completed + failures,
            rate_per_s=rate_per_s,
            scaled=client.scaled,
            prompt_tokens=_prompt_tokens(fields, completed),
            output_tokens=outputs,
            max_in_flight=users or client.max_in_flight,
            timeout_s=client.timeout_s,
            shared=client.shared,
        ),
        completed=completed,
        failures=failures,
        requests_per_s=requests_per_s,
        output_tokens_per_s=requests_per_s * outputs if completed else 0.0,
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tpot_mean_s=per_token_s if is_alike else None,
        itl_s=itl_s,
        definitions=(itl_words, TPOT_ALIKE if is_alike else NO_TPOT) if ttft_s else (NO_TTFT,),
        model=client.model,
        assumed=client.assumed,
    )


def _times(fields: Fields, name: str) -> dict[str, float]:
    keys = {"p50": "median"} | {percent: percent for percent in PERCENTS[1:]} | {"mean": "mean"}
    return fields.times({key: f"successes.latency.{name}.{of}" for key, of in keys.items()}, 1.0)


def _prompt_tokens(fields: Fields, completed: int) -> float:
    """By the server's count where there is one (``prompt_tokens``)."""
    found = fields.within("successes")
    if found.get("prompt_len.mean") is None and found.get("prompt_tokens.mean") is None:
        total = found.maybe("prompt_tokens.total")
        if total is not None:
            return total / max(completed, 1)
    return found.mean_over(completed, "prompt_tokens.mean" if found.get("prompt_tokens.mean") else "prompt_len.mean")


def _output_tokens(fields: Fields, client: Client, completed: int) -> tuple[float, bool]:
    """The mean, and whether all answers are that long: as asked where the server goes on, else by the server's count,
    else by that of the text encoded again.
    """
    if client.output_tokens:
        return client.output_tokens, True
    found = fields.within("successes")
    counts = "output_tokens" if found.get("output_tokens.mean") is not None else "output_len"
    least = found.get(f"{counts}.min")
    return found.mean_over(completed, f"{counts}.mean"), least is not None and least == found.get(f"{counts}.max")


def request_row(request: Any) -> object:
    """(sent, ended, tokens in, tokens out, first token, failed); ``None``: no request."""
    if not isinstance(request, dict) or "start_time" not in request or "end_time" not in request:
        return None
    fields = Fields("", request)
    info = fields.within("info")
    answer = info.within("response_metrics") if info.get("response_metrics") is not None else info
    counts = (answer.get("server_usage.completion_tokens"), answer.get("output_tokens"))
    prompts = (answer.get("server_usage.prompt_tokens"), info.get("input_tokens"))
    firsts = answer.get("output_token_times") or answer.get("chunk_times")
    first = firsts[0] if isinstance(firsts, list) and firsts else None
    prompt, output = (next((count for count in found if count is not None), None) for found in (prompts, counts))
    return request["start_time"], request["end_time"], prompt, output, first, request.get("error") is not None


REDUCTIONS = {"": request_row}


def read_requests(file: str, rows: list[Any], client: Client) -> ClientResult:
    """``per_request_lifecycle_metrics.json``: all stages, as one load with the times at which it was sent."""
    for number, row in enumerate(rows, 1):
        if row is None:
            raise ConfigError(f"{file}: entry {number:,}: no request of {NAME}")
    requests = Requests.of(file, (_row(*row) for row in rows))
    traffic = recorded_traffic(requests)
    traffic = replace(traffic, timeout_s=client.timeout_s, shared=client.shared, max_in_flight=client.max_in_flight)
    found = result_of(requests, traffic, name=file, client=NAME, model=client.model)
    return replace(found, assumed=(*client.assumed, "all stages are one load, sent when they were"))


def _row(sent: Any, ended: Any, prompt: Any, output: Any, first: Any, failed: bool) -> Row:
    def after(time: Any) -> Any:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (time, sent))
        return time - sent if numbers else time

    return Row(sent, prompt, output, None if first is None else after(first), after(ended), not failed)


def stages_of(folder: Path) -> list[Path]:
    """In order."""
    return sorted(folder.glob("stage_*.json"), key=lambda path: (stage_number(path), path.name))
