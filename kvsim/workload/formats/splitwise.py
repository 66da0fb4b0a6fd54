"""Splitwise's traces: seconds, prompt and token sizes."""

from __future__ import annotations

from kvsim.workload.formats.base import TableColumns, Tabular


class Splitwise(Tabular):
    """``request_id, request_type, application_id, arrival_timestamp`` (s), ``batch_size, prompt_size, token_size``."""

    COLUMNS = TableColumns("arrival_timestamp", "s", "prompt_size", "token_size", one="batch_size")
