"""``trace``: describe a trace, check a trace, make one. No simulation."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kvsim.cli.fetch import fetch_trace, list_traces
from kvsim.cli.options import JsonOut, TraceFile, reads_traces
from kvsim.cli.synth import synth
from kvsim.cli.usage import FlagError, Verbs
from kvsim.cli.validate_text import wrapped
from kvsim.workload.reading import Reading

if TYPE_CHECKING:
    from kvsim.workload.info import Finding

trace_app = typer.Typer(cls=Verbs, help="Describe, check or make a trace.", rich_markup_mode=None, add_completion=False)


@trace_app.callback(invoke_without_command=True)
def trace(ctx: typer.Context) -> None:
    """Describe, check or make a trace."""
    if ctx.invoked_subcommand is None:
        raise FlagError("trace: a command is missing; known: fetch, lint, list, stats, synth")


trace_app.command()(synth)
trace_app.command("fetch")(fetch_trace)
trace_app.command("list")(list_traces)


@trace_app.command()
@reads_traces
def stats(file: TraceFile, reading: Reading, json_out: JsonOut = None) -> int:
    """Describe a trace: requests, span, rate, lengths, hit rates of an infinite cache."""
    _check(file, json_out)
    from kvsim.workload.stats import trace_stats

    figures = trace_stats(file, reading)
    if json_out is not None:
        _write(json_out, figures)
    _print_stats(figures)
    return 0


@trace_app.command()
@reads_traces
def lint(file: TraceFile, reading: Reading, json_out: JsonOut = None) -> int:
    """Check a trace. Exit code 0: clean, 1: something was found, 2: cannot be read."""
    _check(file, json_out)
    from kvsim.workload.lint import lint_trace

    findings = lint_trace(file, reading)
    if json_out is not None:
        _write(json_out, _lint_report(file, findings))
    for finding in findings:
        place = f"{file}:{finding.line}" if finding.line else f"{file}"
        sys.stdout.write(f"{place}: {finding.level}: {finding.rule}: {finding.message}\n")
    if not findings:
        sys.stdout.write(f"{file}: clean\n")
    return 1 if findings else 0


def _check(file: Path, json_out: Path | None) -> None:
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {"the trace": file}, "JSON")


def _write(path: Path, figures: Mapping[str, Any]) -> None:
    from kvsim.report.json_report import write_json

    write_json(path, figures)


def _lint_report(file: Path, findings: list[Finding]) -> dict[str, Any]:
    errors = sum(finding.level == "error" for finding in findings)
    return {
        "source": str(file),
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [finding._asdict() for finding in findings],
    }


def _print_stats(figures: Mapping[str, Any]) -> None:
    width = max(map(len, figures))
    for name, value in figures.items():
        if name != "notes":
            sys.stdout.write(f"{name:<{width}}  {_shown(name, value)}\n")
    for note in figures["notes"]:
        sys.stdout.write(wrapped(f"note: {note}"))


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if "rate" in name else f"{value:,.2f}" if name == "span_s" else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
