"""Azure's LLM inference traces of 2023 and 2024 (AzurePublicDataset): dates, prompt and answer lengths, no content."""

from __future__ import annotations

from kvsim.workload.formats.base import TableColumns, Tabular
from kvsim.workload.times import DATE


class Azure(Tabular):
    """``TIMESTAMP,ContextTokens,GeneratedTokens``."""

    COLUMNS = TableColumns("TIMESTAMP", DATE, "ContextTokens", "GeneratedTokens")
