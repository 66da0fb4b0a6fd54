"""``kvsim lab log``: a vLLM server's log as a table and a summary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.lab_merge import say
from kvsim.cli.saying import DONE
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.lab.kv.analysis.serverlog import LoadSummary, ServerLog

_COLUMNS = ("line", "time_s", "engine", "prompt_tokens_per_s")
"""How the table begins, by which one that is there is known."""


@dataclass(frozen=True, kw_only=True)
class LogFlags:
    """The flags of ``lab log``."""

    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="What vllm serve wrote to stderr.")] = None
    json: Annotated[bool, typer.Option("--json", help="All of it as JSON, to stdout.")] = False
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="CSV", help="A line each periodic line.")] = None


@options.taking(LogFlags)
def lab_log(flags: LogFlags) -> int:
    """Read a vLLM server's log: start-up, room for KV, load over time, preemptions: kvsim lab log server.log."""
    from kvsim.experiments.files import csv_of, write_text
    from kvsim.lab.kv.analysis.serverlog import load_summaries, read_server_log
    from kvsim.record.plain import plain
    from kvsim.report.atomic import reaching_stdout
    from kvsim.report.json_report import json_text

    if flags.file is None:
        raise FlagError("lab log: FILE is missing: what vllm serve wrote to stderr")
    if flags.out is not None:
        _check(flags.out, flags.file)
    log = read_server_log(flags.file)
    if flags.out is not None and not log.samples:
        raise FlagError(f"-o: {flags.file} has no periodic line, so there is no table; leave out -o")
    summaries = load_summaries(log)
    if flags.out is not None:
        write_text(flags.out, csv_of(log.samples))
    with reaching_stdout():
        if flags.json:
            print(json_text({**plain(log), "load": plain(summaries)}), end="")
        else:
            for line in _lines(log, summaries):
                print(line)
    if flags.out is not None:
        say(f"wrote {flags.out}")
    return DONE


def _check(out: Path, log: Path) -> None:
    from kvsim.cli.outputs import refuse_taken
    from kvsim.report.atomic import ensure_writable

    refuse_taken("-o", out, {"the log": log})
    ensure_writable(out)
    if out.is_file() and out.stat().st_size:
        with out.open("rb") as stream:
            if not stream.readline().startswith(",".join(_COLUMNS).encode()):
                raise FlagError(f"-o is {str(out)!r}, which is there and no table of kvsim lab log's")


_FACTS = {
    "version": "vLLM {}",
    "weights_s": "loading weights {} s",
    "model_gib": "model {} GiB a GPU",
    "model_s": "loading the model {} s",
    "compile_s": "torch.compile {} s",
    "graphs_s": "CUDA graphs {} s",
    "graphs_gib": "CUDA graphs {} GiB",
    "init_engine_s": "engine ready after {} s",
    "kv_memory_gib": "memory for KV {} GiB",
    "kv_tokens": "KV cache {} tokens",
    "gpu_blocks": "{} blocks",
    "tokens_per_request": "longest request {} tokens",
    "max_concurrency": "{} of the longest requests at once",
}


def _lines(log: ServerLog, summaries: list[LoadSummary]) -> Iterator[str]:
    from kvsim.record.labels import counted, number

    for name, words in _FACTS.items():
        if name in log.facts:
            yield words.format(" / ".join(log.facts[name]))
    if log.arguments is not None:
        told = ", ".join(f"{name}={value}" for name, value in log.arguments.items())
        yield f"started with {told or 'nothing but defaults'}"
    for one in summaries:
        kv = "-" if one.peak_kv_usage_pct is None else f"{one.peak_kv_usage_pct:g}%"
        hits = "-" if one.last_hit_rate_pct is None else f"{one.last_hit_rate_pct:g}%"
        yield (
            f"engine {one.engine}: {counted(one.samples, 'periodic line')}; peaks: prompt "
            f"{number(one.peak_prompt_tokens_per_s)} tokens/s, output {number(one.peak_output_tokens_per_s)} tokens/s, "
            f"{_or_dash(one.peak_running)} running, {_or_dash(one.peak_waiting)} waiting, KV {kv} taken; "
            f"hit rate at the end {hits}"
        )
        if one.interval_s is not None and one.running_s is not None and one.waiting_s is not None:
            yield (
                f"engine {one.engine}: requests running for about {number(one.running_s)} s, waiting for about "
                f"{number(one.waiting_s)} s, by a line every {number(one.interval_s)} s"
            )
        if one.preemptions is not None:
            yield f"engine {one.engine}: {counted(one.preemptions, 'preemption')} by its periodic lines"
    if not summaries:
        yield "no periodic line: its load cannot be told (idle servers write none)"
    yield (
        f"{counted(log.warnings, 'warning')}, {counted(log.errors, 'error')}, "
        f"{counted(log.preemption_lines, 'line')} on preempted requests; {log.unknown:,} of {log.lines:,} lines unread"
    )


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
