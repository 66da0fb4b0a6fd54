"""The trace schemas kvsim reads: one file each, and one line in the registry below.

A new schema is a class with the shape of :class:`kvsim.workload.formats.base.TraceFormat` in a file of its own; it is
then known to ``--workload-format`` and to ``auto``, which asks the schemas in this order.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvsim.errors import WorkloadError, nearest
from kvsim.workload.formats.agentic import AgenticMooncake
from kvsim.workload.formats.aiperf import Aiperf
from kvsim.workload.formats.aiperf_turns import AiperfTurns
from kvsim.workload.formats.azure import Azure
from kvsim.workload.formats.bailian import Bailian
from kvsim.workload.formats.base import TraceFormat
from kvsim.workload.formats.burstgpt import BurstGpt
from kvsim.workload.formats.generic import Generic
from kvsim.workload.formats.mooncake import Mooncake
from kvsim.workload.formats.sharegpt import Sharegpt
from kvsim.workload.formats.splitwise import Splitwise
from kvsim.workload.formats.vllm_log import VllmLog
from kvsim.workload.formats.weka import Weka
from kvsim.workload.tracefile import TraceFile

FORMATS: Mapping[str, type[TraceFormat]] = {
    "agentic_mooncake": AgenticMooncake,
    "weka": Weka,
    "aiperf_turns": AiperfTurns,
    "vllm_log": VllmLog,
    "azure": Azure,
    "burstgpt": BurstGpt,
    "mooncake": Mooncake,
    "splitwise": Splitwise,
    "bailian": Bailian,
    "aiperf": Aiperf,
    "sharegpt": Sharegpt,
    "generic": Generic,
}


def detect(file: TraceFile) -> str:
    """The schema of a file, from the fields of its first rows. Raises ``WorkloadError`` when none matches."""
    fields = file.fields()
    for name, schema in FORMATS.items():
        if schema.matches(fields):
            return name
    # The generic reader knows best which column it misses.
    first = file.first()
    Generic(None).row(first)
    raise first.error("format", ", ".join(first.values), f"the fields of {', '.join(FORMATS)}")


def format_named(name: str, file: TraceFile) -> str:
    """``name`` itself when it can be read, or the detected one for ``auto``. Raises ``WorkloadError`` for others."""
    if name == "auto":
        return detect(file)
    if name not in FORMATS:
        raise WorkloadError(f"workload format '{name}' is unknown; {nearest(name, ('auto', *FORMATS))}")
    return name
