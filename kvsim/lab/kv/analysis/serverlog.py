"""What a vLLM server says of itself in its log: start-up, room for KV, and its load every few seconds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from kvsim.config.yaml_source import named
from kvsim.errors import KvsimError
from kvsim.workload.loglines import line_time_ns

_PERIODIC = re.compile(
    r"(?:Engine (?P<engine>\d+): |(?P<several>\d+) Engines Aggregated: )?"
    r"Avg prompt throughput: (?P<prompt>[\d.]+) tokens/s, Avg generation throughput: (?P<generated>[\d.]+) tokens/s, "
)
_REST = {
    "running": re.compile(r"\bRunning: (\d+) reqs"),
    "waiting": re.compile(r"\b(?:Waiting|Pending): (\d+) reqs"),
    "preemptions": re.compile(r"\bPreemptions: (\d+)"),
    "kv_usage_pct": re.compile(r"\bGPU KV cache usage: ([\d.]+)%"),
    "hit_rate_pct": re.compile(r"(?<!External )(?<!MM )\b[Pp]refix cache hit rate: (?:GPU: )?([\d.]+)%"),
}
_FACTS = {
    "version": re.compile(
        r"(?:vLLM API server version |Initializing an? (?:V1 )?LLM engine \(v)([\w.+-]+?)(?=\)|,|\s|$)"
    ),
    "weights_s": re.compile(r"\bLoading weights took ([\d.]+) s"),
    "model_gib": re.compile(r"\bModel loading took ([\d.]+) Gi?B"),
    "model_s": re.compile(r"\bModel loading took [\d.]+ Gi?B (?:memory )?and ([\d.]+) s"),
    "compile_s": re.compile(r"\btorch\.compile (?:took|takes) ([\d.]+) s"),
    "graphs_s": re.compile(r"\bGraph capturing finished in ([\d.]+) s"),
    "graphs_gib": re.compile(r"\bGraph capturing finished in [\d.]+ s\w*, took ([\d.]+) Gi?B"),
    "init_engine_s": re.compile(r"\binit engine \([^)]*\) took ([\d.]+) s"),
    "kv_memory_gib": re.compile(r"\bAvailable KV cache memory: ([\d.]+) Gi?B"),
    "kv_tokens": re.compile(r"\bGPU KV cache size: ([\d,]+) tokens"),
    "gpu_blocks": re.compile(r"(?:num_gpu_blocks is: |# (?:GPU|cuda) blocks: )([\d,]+)"),
    "tokens_per_request": re.compile(r"\bMaximum concurrency for ([\d,]+) tokens per request"),
    "max_concurrency": re.compile(r"\bMaximum concurrency for [\d,]+ tokens per request: ([\d.]+)x"),
}
_ARGUMENTS = re.compile(r"\bnon-default args: (\{.*\})\s*$")
_SECRET = re.compile(
    r"(?:^|[_-])(?:key|keys|token|secret|password|auth|authorization|headers?)(?:$|[_-])", re.IGNORECASE
)
_LEVEL = re.compile(r"(?:^|[\s)])(WARNING|ERROR|CRITICAL) \d\d-\d\d ")
_PREEMPTED = re.compile(r"\bpreempt(?:ed|ion)", re.IGNORECASE)
_WRAP_NS = 200 * 86_400 * 1_000_000_000
_YEAR_NS = 366 * 86_400 * 1_000_000_000


class ServerLogError(KvsimError):
    """A file that cannot be read, or has no line that a vLLM server writes."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One of the periodic lines; ``None``: it does not say."""

    line: int
    time_s: float | None
    """From the first dated line of the file on."""
    engine: str
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    running: int | None
    waiting: int | None
    kv_usage_pct: float | None
    hit_rate_pct: float | None
    preemptions: int | None


@dataclass(frozen=True, kw_only=True)
class ServerLog:
    """All that was read."""

    lines: int
    unknown: int
    """Lines of which nothing is read."""
    facts: Mapping[str, tuple[str, ...]]
    """Start-up and capacity: the different values of each, in their order; several where ranks or engines differ."""
    arguments: Mapping[str, object] | None
    """What the server was started with, without what may be secret."""
    samples: tuple[Sample, ...]
    warnings: int
    errors: int
    preemption_lines: int
    """Lines that tell of preempted requests, beside the periodic ones."""

    @property
    def engines(self) -> list[str]:
        return sorted({sample.engine for sample in self.samples})


@dataclass(frozen=True, kw_only=True)
class LoadSummary:
    """The periodic lines of one engine."""

    engine: str
    samples: int
    interval_s: float | None
    """The usual time between two of them; ``None``: there are not two, or they have no times."""
    running_s: float | None
    """Periods that ended with requests running; also waiting. Each counts as the usual time."""
    waiting_s: float | None
    peak_prompt_tokens_per_s: float
    peak_output_tokens_per_s: float
    peak_running: int | None
    peak_waiting: int | None
    peak_kv_usage_pct: float | None
    last_hit_rate_pct: float | None
    preemptions: int | None


def read_server_log(path: Path) -> ServerLog:
    """Read a log. Raises ``ServerLogError`` where it cannot be, or where no line is known."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            found = _Reader().read(stream)
    except OSError as error:
        raise ServerLogError(f"{named(path)}: {(error.strerror or str(error)).lower()}") from None
    if not found.samples and not found.facts and found.arguments is None:
        raise ServerLogError(
            f"{named(path)}: none of its {found.lines:,} lines is one of a vLLM server's log; wanted: what "
            "'vllm serve' writes to stderr"
        )
    return found


class _Reader:
    """Line by line; each is read as one thing at the most, but for its level."""

    def __init__(self) -> None:
        self.facts: dict[str, list[str]] = {}
        self.samples: list[Sample] = []
        self.arguments: Mapping[str, object] | None = None
        self.lines = self.unknown = self.warnings = self.errors = self.preempted = 0
        self._first_ns: int | None = None
        self._last_ns = self._years_ns = 0

    def read(self, lines: Iterator[str]) -> ServerLog:
        for line in lines:
            self.lines += 1
            time_s, level = self._time_s(line), _LEVEL.search(line[:400])
            self.warnings += level is not None and level[1] == "WARNING"
            self.errors += level is not None and level[1] != "WARNING"
            self.unknown += not (self._periodic(line, time_s) or self._fact(line) or self._other(line)) and not level
        return ServerLog(
            lines=self.lines,
            unknown=self.unknown,
            facts={name: tuple(values) for name, values in self.facts.items()},
            arguments=self.arguments,
            samples=tuple(self.samples),
            warnings=self.warnings,
            errors=self.errors,
            preemption_lines=self.preempted,
        )

    def _time_s(self, line: str) -> float | None:
        """The log knows no year: a date long before the last one is the next year's."""
        time_ns = line_time_ns(line)
        if time_ns is None:
            return None
        if time_ns + self._years_ns < self._last_ns - _WRAP_NS:
            self._years_ns += _YEAR_NS
        self._last_ns = time_ns + self._years_ns
        if self._first_ns is None:
            self._first_ns = self._last_ns
        return (self._last_ns - self._first_ns) / 1e9

    def _periodic(self, line: str, time_s: float | None) -> bool:
        found = _PERIODIC.search(line)
        if found is None:
            return False
        rest = {name: pattern.search(line, found.end()) for name, pattern in _REST.items()}
        values = {name: None if each is None else each[1] for name, each in rest.items()}
        several = found["several"]
        self.samples.append(
            Sample(
                line=self.lines,
                time_s=time_s,
                engine=f"{several} together" if several else found["engine"] or "000",
                prompt_tokens_per_s=float(found["prompt"]),
                output_tokens_per_s=float(found["generated"]),
                running=_whole(values["running"]),
                waiting=_whole(values["waiting"]),
                kv_usage_pct=_real(values["kv_usage_pct"]),
                hit_rate_pct=_real(values["hit_rate_pct"]),
                preemptions=_whole(values["preemptions"]),
            )
        )
        return True

    def _fact(self, line: str) -> bool:
        known = False
        for name, pattern in _FACTS.items():
            found = pattern.search(line)
            if found is not None:
                known = True
                value = found[1].replace(",", "")
                if value not in self.facts.setdefault(name, []):
                    self.facts[name].append(value)
        return known

    def _other(self, line: str) -> bool:
        found = _ARGUMENTS.search(line)
        if found is not None:
            self.arguments = _arguments(found[1])
            return self.arguments is not None
        preempted = _PREEMPTED.search(line) is not None
        self.preempted += preempted
        return preempted


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)


def _real(text: str | None) -> float | None:
    return None if text is None else float(text)


def _arguments(text: str) -> Mapping[str, object] | None:
    """Names and values without what may be secret; ``None`` where they are no plain values."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return _without_secrets(found) if isinstance(found, dict) else None


def _without_secrets(found: Mapping[object, object]) -> dict[str, object]:
    return {
        str(name): _without_secrets(value) if isinstance(value, dict) else value
        for name, value in found.items()
        if not _SECRET.search(str(name))
    }


def load_summaries(log: ServerLog) -> list[LoadSummary]:
    """One of each engine."""
    return [_summary(engine, [one for one in log.samples if one.engine == engine]) for engine in log.engines]


def _summary(engine: str, samples: list[Sample]) -> LoadSummary:
    times = [one.time_s for one in samples if one.time_s is not None]
    gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    interval_s = float(median(gaps)) if gaps else None
    preemptions = [one.preemptions for one in samples if one.preemptions is not None]
    rates = [one.hit_rate_pct for one in samples if one.hit_rate_pct is not None]

    def lasting(name: str) -> float | None:
        known = [value for value in (getattr(one, name) for one in samples) if value is not None]
        return None if interval_s is None or not known else interval_s * sum(value > 0 for value in known)

    def peak(name: str) -> float | None:
        return max((value for value in (getattr(one, name) for one in samples) if value is not None), default=None)

    running, waiting = peak("running"), peak("waiting")
    return LoadSummary(
        engine=engine,
        samples=len(samples),
        interval_s=interval_s,
        running_s=lasting("running"),
        waiting_s=lasting("waiting"),
        peak_prompt_tokens_per_s=max(one.prompt_tokens_per_s for one in samples),
        peak_output_tokens_per_s=max(one.output_tokens_per_s for one in samples),
        peak_running=None if running is None else int(running),
        peak_waiting=None if waiting is None else int(waiting),
        peak_kv_usage_pct=peak("kv_usage_pct"),
        last_hit_rate_pct=rates[-1] if rates else None,
        preemptions=sum(preemptions) if preemptions else None,
    )
