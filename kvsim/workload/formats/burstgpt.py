"""BurstGPT: lengths of ChatGPT and GPT-4 requests of a campus, by the second; releases 1 and 2/3 differ in columns."""

from __future__ import annotations

from kvsim.workload.formats.base import TableColumns, Tabular


class BurstGpt(Tabular):
    """``Timestamp`` (s), ``Request tokens``, ``Response tokens``, ``Total tokens``; sessions since release 2.

    ``Elapsed time`` is end to end, says nothing about TTFT, and is left alone. An answer of no tokens is a failure.
    """

    COLUMNS = TableColumns(
        "Timestamp",
        "s",
        "Request tokens",
        "Response tokens",
        session="Session ID",
        total_tokens="Total tokens",
        not_negative="Elapsed time",
    )
