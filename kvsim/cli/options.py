"""The values that flags take: how each is read, and the flags that several verbs share."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from kvsim.errors import nearest

Number = TypeVar("Number", int, float)
F = TypeVar("F")

TRAIN_MODES = ("warmup", "split")
FORMS = ("accesses", "engine")
SYSTEMS = ("unified", "pd")
"""What ``--pd`` runs, in this order."""


def whole(text: str) -> int:
    """A whole number from 0 on."""
    return _number(text, int, "a whole number >= 0", lambda value: value >= 0)


def count(text: str) -> int:
    """A whole number from 1 on."""
    return _number(text, int, "a whole number >= 1", lambda value: value >= 1)


def several(text: str) -> int:
    """A whole number from 2 on."""
    return _number(text, int, "a whole number >= 2", lambda value: value >= 2)


def positive(text: str) -> float:
    """A finite number above 0."""
    return _number(text, float, "a finite number > 0", lambda value: 0 < value < math.inf)


def seconds(text: str) -> float:
    """A finite number from 0 on."""
    return _number(text, float, "a finite number >= 0", lambda value: 0 <= value < math.inf)


def rate(text: str) -> float:
    """A number above 0, ``inf`` included."""
    return _number(text, float, "a number > 0, or inf", lambda value: value > 0)


def share(text: str) -> float:
    """A number strictly between 0 and 1."""
    return _number(text, float, "a number > 0 and < 1", lambda value: 0 < value < 1)


def _number(text: str, kind: Callable[[str], Number], allowed: str, fits: Callable[[Number], bool]) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise typer.BadParameter(f"{text!r}; allowed: {allowed}")
    return value


def train_mode(text: str) -> str:
    """A way of training a learned policy."""
    return _known(text, TRAIN_MODES)


def counted_as(text: str) -> str:
    """What ``hits`` counts."""
    return _known(text, FORMS)


def load_system(text: str) -> str:
    """A system whose maximum rate a load is a share of."""
    return _known(text, SYSTEMS)


def systems(text: str) -> str:
    """Names of systems, separated by commas; in the order in which they are run."""
    named = {_known(name.strip(), SYSTEMS) for name in text.split(",")}
    return ",".join(name for name in SYSTEMS if name in named)


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _known(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise typer.BadParameter(f"{name!r}; {nearest(name, known)}")
    return name


def taking(kind: type[F]) -> Callable[[Callable[[F], int]], Callable[..., int]]:
    """A verb with a parameter for each field of the dataclass ``kind``, in place of one that has them all."""

    def decorated(verb: Callable[[F], int]) -> Callable[..., int]:
        @functools.wraps(verb)
        def with_flags(**given: Any) -> int:
            return verb(kind(**given))

        return with_parameters(with_flags, parameters_of(kind))

    return decorated


def parameters_of(kind: type) -> list[inspect.Parameter]:
    """The fields of a dataclass as parameters of a verb, its own before those that it inherits."""
    own = inspect.get_annotations(kind)
    hints = get_type_hints(kind, include_extras=True)
    keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    return [
        inspect.Parameter(
            field.name,
            keyword,
            default=empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in sorted(fields(kind), key=lambda field: field.name not in own)
    ]


def with_parameters(verb: Callable[..., int], parameters: Sequence[inspect.Parameter]) -> Callable[..., int]:
    """``verb`` as one that says itself which parameters it takes."""
    verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    verb.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return verb


def reads_traces(verb: Callable[..., int]) -> Callable[..., int]:
    """``verb`` with all flags that say how a trace is read, in place of its parameter ``reading``, made of them."""
    signature = inspect.signature(verb, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "reading"]
    read = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (_, kind, default) in READING.items()
    ]

    @functools.wraps(verb)
    def with_reading(**given: Any) -> int:
        from kvsim.workload.reading import Reading

        reading = Reading(**{field: given.pop(name) for name, (field, _, _) in READING.items()})
        return verb(**given, reading=reading)

    whole = signature.replace(parameters=[*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *read])
    with_reading.__signature__ = whole  # type: ignore[attr-defined]
    with_reading.__annotations__ = {name: parameter.annotation for name, parameter in whole.parameters.items()}
    return with_reading


TraceFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The trace: CSV, JSON lines or JSON; plain, gzip or zip.")
]
WorkloadFormat = Annotated[
    str,
    typer.Option(
        "--workload-format",
        metavar="FORMAT",
        help="Trace schema: auto, azure, burstgpt, mooncake, agentic_mooncake, splitwise, bailian, aiperf, "
        "aiperf_turns, weka, vllm_log, sharegpt, generic.",
    ),
]
WorkloadLimit = Annotated[
    int | None, typer.Option("--workload-limit", metavar="N", parser=count, help="Take the first N requests.")
]
TimeUnit = Annotated[
    str,
    typer.Option("--workload-time-unit", metavar="UNIT", help="Unit of the trace's times: auto, s, ms, us, ns."),
]
ArrivalScale = Annotated[
    float,
    typer.Option(
        "--workload-arrival-scale",
        metavar="X",
        parser=positive,
        help="Multiply arrival times: 0.5 doubles the rate.",
    ),
]
IncludeFailed = Annotated[
    bool, typer.Option("--workload-include-failed", help="Take failed rows of the trace, with one token.")
]
HashTokens = Annotated[
    int | None,
    typer.Option("--workload-hash-tokens-per-block", metavar="N", parser=count, help="Tokens a hash id stands for."),
]
Dequantise = Annotated[bool, typer.Option("--workload-dequantise", help="Spread arrivals that share a coarse time.")]
Strict = Annotated[
    bool, typer.Option("--strict-workload-validation", help="Refuse a trace in which lint finds an error.")
]
READING: Mapping[str, tuple[str, Any, Any]] = {
    "workload_format": ("fmt", WorkloadFormat, "auto"),
    "workload_limit": ("limit", WorkloadLimit, None),
    "workload_time_unit": ("time_unit", TimeUnit, "auto"),
    "workload_arrival_scale": ("arrival_scale", ArrivalScale, 1.0),
    "workload_include_failed": ("include_failed", IncludeFailed, False),
    "workload_hash_tokens_per_block": ("hash_tokens_per_block", HashTokens, None),
    "workload_dequantise": ("dequantise", Dequantise, False),
    "strict_workload_validation": ("strict", Strict, False),
}
"""The parameter of each flag that says how a trace is read: its field of ``Reading``, its kind, its default."""


@dataclass(frozen=True, kw_only=True)
class ReadingFlags:
    """``READING`` for verbs whose flags are a dataclass."""

    workload_format: WorkloadFormat = "auto"
    workload_limit: WorkloadLimit = None
    workload_time_unit: TimeUnit = "auto"
    workload_arrival_scale: ArrivalScale = 1.0
    workload_include_failed: IncludeFailed = False
    workload_hash_tokens_per_block: HashTokens = None
    workload_dequantise: Dequantise = False
    strict_workload_validation: Strict = False


def or_stdout(context: typer.Context, path: Path | None) -> Path | None:
    """A file to write; where it is ``-``, stdout, words go to stderr until the command has ended."""
    if path == Path("-"):
        from kvsim.report.atomic import words_to_stderr

        context.with_resource(words_to_stderr())
    return path


Gpu = Annotated[str | None, typer.Option(metavar="NAME", help="The GPU, e.g. h100-sxm; default: hardware.gpu.")]
ClientTimeout = Annotated[
    float | None,
    typer.Option(metavar="S", parser=positive, help="Clients give up after S seconds, as clients.timeout_s."),
]
Retries = Annotated[
    int | None,
    typer.Option(metavar="N", parser=whole, help="And send a request again up to N times, as clients.*."),
]
CalibrationProfile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Step times; default: the nearest measured ones. none: data-sheet arithmetic."),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One key of the configuration; repeatable.")
]
CpuBudget = Annotated[
    float | None,
    typer.Option(
        "--cpu-budget",
        metavar="S",
        parser=positive,
        help="CPU seconds of one study, beyond which no further replication begins.",
    ),
]


def client_sets(timeout_s: float | None, retries: int | None) -> tuple[str, ...]:
    """The patience of clients as assignments."""
    given = {"clients.timeout_s": timeout_s, "clients.retries": retries}
    return tuple(f"{key}={value!r}" for key, value in given.items() if value is not None)


def budget_sets(cpu_budget_s: float | None) -> tuple[str, ...]:
    """``CpuBudget`` as assignments."""
    return () if cpu_budget_s is None else (f"studies.cpu_budget_s={cpu_budget_s!r}",)


JsonOut = Annotated[
    Path | None,
    typer.Option("--json", metavar="OUT", callback=or_stdout, help="Write the result as JSON; -: to stdout."),
]
