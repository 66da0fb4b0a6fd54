"""``kvsim measure``: send a workload to a server, and time every token."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli import options, served
from kvsim.cli.saying import DONE, OTHER, one_line
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.measure import MeasuredRun, Sending
    from kvsim.workload.workload import Workload

SEED, DURATION_S = 42, 300.0
_VOCABULARY = "1000:30000"


@dataclass(frozen=True, kw_only=True)
class MeasureFlags(options.ReadingFlags):
    """The flags of ``measure``."""

    url: Annotated[str, typer.Option(metavar="URL", help="The server: http://HOST:PORT, with or without /v1.")]
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="As the server names it; default: the first that it names.")
    ] = None
    workload: served.Workload = served.DEFAULT_WORKLOAD
    rate: served.Rate = None
    concurrency: served.Concurrency = None
    requests: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="How many; default: those of --duration.")
    ] = None
    duration: Annotated[
        float | None,
        typer.Option(metavar="S", parser=options.positive, help="Seconds that requests come at --rate; default: 300."),
    ] = None
    seed: served.Seed = SEED
    content_seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=options.whole,
            help="Seed of the prompts' tokens alone: another one, and a warm cache knows none; default: --seed.",
        ),
    ] = None
    chat: Annotated[bool, typer.Option("--chat", help="Chats in place of completions; wants --tokenizer.")] = False
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="tokenizer.json: prompts are text; without, they are token ids."),
    ] = None
    vocabulary: Annotated[
        str, typer.Option(metavar="FROM:TO", help="Token ids that prompts are made of, below TO.")
    ] = _VOCABULARY
    timeout: Annotated[
        float, typer.Option(metavar="S", parser=options.positive, help="Seconds until an answer is given up.")
    ] = 600.0
    connect_timeout: Annotated[
        float, typer.Option(metavar="S", parser=options.positive, help="Seconds until a connection is given up.")
    ] = 10.0
    metrics_interval: Annotated[
        float, typer.Option(metavar="S", parser=options.seconds, help="Seconds between readings of /metrics; 0: none.")
    ] = 1.0
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variable with the key; default: KVSIM_API_KEY, else OPENAI_API_KEY."),
    ] = None
    extra_body: Annotated[
        str | None, typer.Option(metavar="JSON", help="Further keys of every request, as a JSON object.")
    ] = None
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="A row a request: .jsonl or .parquet.")
    ] = None
    bench_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Results as vllm bench serve writes them."),
    ] = None
    json_: options.JsonOut = None
    quiet: Annotated[bool, typer.Option("--quiet", help="The measured times alone, and what went wrong.")] = False


@options.taking(MeasureFlags)
def measure(flags: MeasureFlags) -> int:
    """Measure a server under a workload (docs/measure.md).

    kvsim measure --url http://127.0.0.1:8000 --workload chat --rate 2 --duration 300 -o rows.jsonl
    """
    from kvsim.cli.measure_text import told
    from kvsim.measure import measure as measured
    from kvsim.measure import server_of
    from kvsim.measure.measure import ensure_client

    served.ensure_one_pace(flags.rate, flags.concurrency)
    check_files(flags)
    ensure_client()
    server = server_of(flags.url, flags.api_key_env)
    sending = sending_of(flags)
    workload, words = workload_of(flags)
    if threading.current_thread() is threading.main_thread():
        # A shell script's background jobs start with SIGINT ignored; a run must end with its rows there too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    bar = _Bar(len(workload), quiet=flags.quiet)
    run = measured(server, workload, sending, words=words, seed=flags.seed, progress=bar.show)
    bar.clear()
    written = write_files(flags, run)
    sys.stdout.write(told(run, quiet=flags.quiet))
    for path in written if not flags.quiet else ():
        print(f"kvsim: {one_line(f'wrote {path}')}", file=sys.stderr)
    return DONE if run.answered and not run.incomplete else OTHER


def workload_of(flags: MeasureFlags) -> tuple[Workload, str]:
    """What is sent, and in words. Raises a ``KvsimError``."""
    from kvsim.capacity.sources import TraceRun, WordRun
    from kvsim.workload.traffic import TraceSource, TraceTraffic

    seed = SEED if flags.seed is None else flags.seed
    source = served.source_of(flags.workload, served.reading_of(flags), flags.concurrency, flags.requests)
    if isinstance(source, TraceSource):
        if flags.duration is not None:
            raise FlagError("--duration is for workloads in a word; a trace takes --workload-limit")
        traffic = TraceRun(TraceTraffic(source, None, seed)).traffic
        if flags.rate is None:
            return traffic.own(), flags.workload
        return traffic.at_rate(flags.rate), f"{flags.workload} at {flags.rate:g} requests/s"
    if flags.concurrency is not None:
        if flags.duration is not None:
            raise FlagError("--duration goes with --rate; a closed loop takes --requests")
        found = WordRun(source, seed).own()
        assert found is not None
        return found, f"{flags.workload} by {flags.concurrency:,} users"
    if flags.rate is None:
        raise FlagError(f"--workload {flags.workload!r} has no times of its own; give --rate R or --concurrency C")
    if flags.requests is not None and flags.duration is not None:
        raise FlagError("--requests and --duration exclude each other; give one")
    number = flags.requests or max(1, math.ceil(flags.rate * (flags.duration or DURATION_S)))
    return source.word.generate(number, flags.rate, seed), f"{flags.workload} at {flags.rate:g} requests/s"


def sending_of(flags: MeasureFlags) -> Sending:
    """How requests are sent. Raises ``FlagError``."""
    from kvsim.measure import Sending

    low, colon, high = flags.vocabulary.partition(":")
    if not (colon and low.isdecimal() and high.isdecimal() and int(low) + 1 < int(high) <= 1 << 31):
        raise FlagError(f"--vocabulary {flags.vocabulary!r}; allowed: FROM:TO, such as {_VOCABULARY}")
    seed = SEED if flags.seed is None else flags.seed
    return Sending(
        endpoint="chat" if flags.chat else "completions",
        model=flags.model,
        tokenizer=flags.tokenizer,
        vocabulary=(int(low), int(high)),
        content_seed=seed if flags.content_seed is None else flags.content_seed,
        timeout_s=flags.timeout,
        connect_timeout_s=flags.connect_timeout,
        metrics_interval_s=flags.metrics_interval or None,
        extra_body=_extra(flags.extra_body),
    )


def _extra(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FlagError(f"--extra-body {text!r:.60}; allowed: a JSON object, such as '{{\"top_p\": 0.9}}'")
    for key in ("stream", "prompt", "messages", "max_tokens", "model"):
        if key in found:
            raise FlagError(f"--extra-body: {key!r} follows from the workload and other flags; leave it out")
    return found


def check_files(flags: MeasureFlags) -> None:
    """Raise a ``KvsimError`` for files that could not be written, before anything is sent."""
    from kvsim.cli.outputs import check_file
    from kvsim.measure.files import check_suffix, paths

    taken = {"the workload": Path(flags.workload)}
    if flags.tokenizer is not None:
        taken["the tokenizer"] = flags.tokenizer
    if flags.out is not None:
        check_suffix("--out", flags.out)
        rows, samples = paths(flags.out)
        check_file("--out", rows, taken, "measured")
        check_file("--out", samples, taken, "samples")
        taken |= {"also that of --out": rows, "that of the samples of --out": samples}
    if flags.bench_json is not None:
        check_file("--bench-json", flags.bench_json, taken, "bench")
        taken["also that of --bench-json"] = flags.bench_json
    if flags.json_ is not None:
        check_file("--json", flags.json_, taken, "JSON")


def write_files(flags: MeasureFlags, run: MeasuredRun) -> list[Path]:
    """Write what is asked for; returns what was."""
    from kvsim.measure.files import write_bench, write_rows
    from kvsim.measure.summary import report_of
    from kvsim.report.atomic import is_stdout
    from kvsim.report.json_report import write_json

    written = []
    if flags.out is not None:
        written += write_rows(flags.out, run)
    if flags.bench_json is not None:
        write_bench(flags.bench_json, run)
        written.append(flags.bench_json)
    if flags.json_ is not None:
        write_json(flags.json_, report_of(run))
        written.append(flags.json_)
    return [path for path in written if not is_stdout(path)]


class _Bar:
    """One line on a terminal's stderr, renewed four times a second: a bar of Rich takes milliseconds to draw, and they
    would be missing where tokens are timed."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._shows, self._next_s = total, sys.stderr.isatty() and not quiet, 0.0

    def show(self, ended: int, now_s: float) -> None:
        """So many requests have ended."""
        if self._shows and now_s >= self._next_s:
            self._next_s = now_s + 0.25
            print(f"\r{ended:,} of {self._total:,} requests, {now_s:.0f} s", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave no trace of it."""
        if self._shows:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
