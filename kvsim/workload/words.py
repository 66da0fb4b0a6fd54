"""Workloads in one word: ``sharegpt``, ``chat``, ``in=2000,out=300,prefix=800:10``, or a trace file.

Lengths are in tokens, and where they come from stands at each word; ``trace/README.md`` has the table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kvsim.errors import WorkloadError
from kvsim.workload.lengths import LogNormal
from kvsim.workload.made_to_order import EXAMPLE, made_to_order, meant
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.synthetic.servegen import is_clients
from kvsim.workload.synthetic.users import at_most
from kvsim.workload.tracefile import TraceFile
from kvsim.workload.word_kinds import (
    Clients,
    Sessions,
    Single,
    Sizes,
    Trace,
    WorkloadWord,
    check_requests,
    shipped_config,
)
from kvsim.workload.workload import Workload

__all__ = ["WORDS", "Sizes", "WorkloadWord", "word_of"]


USUAL = "chat"
"""What a server is served that nobody says a workload of: the traffic of ``--pd``."""


def word_of(text: str, reading: Reading = AS_IT_STANDS) -> WorkloadWord:
    """The workload that ``text`` says; a trace file is read as ``reading`` says.

    Raises ``WorkloadError`` with the nearest word and all of them, or for a key or value of ``in=...``.
    """
    text = text.strip()
    word = SPELLINGS.get(text, text)
    if word in WORDS:
        return WORDS[word](word)
    if os.path.isfile(text):
        return Trace(text, "a trace", reading)
    if is_clients(text):
        return Clients(text)
    if _MADE_TO_ORDER.match(text) and Path(text).suffix not in _SUFFIXES:
        return made_to_order(text)
    if "/" in text or Path(text).suffix in _SUFFIXES:
        TraceFile(text)
    close, words = meant(text.lower(), WORDS), ", ".join(WORDS)
    raise WorkloadError(f"workload {text!r} is unknown; {close}allowed: {words}, or such as {EXAMPLE}, or a trace file")


SPELLINGS = {"summarize": "summarise"}
_MADE_TO_ORDER = re.compile(r"[a-z_]+\s*=", re.IGNORECASE)
_SUFFIXES = (".csv", ".json", ".jsonl", ".gz", ".zip", ".log", ".txt", ".tsv")


def _sharegpt(text: str) -> WorkloadWord:
    """First questions and their answers of ShareGPT_V3_unfiltered_cleaned_split, as ``vllm bench serve`` samples them.

    It leaves out what has under 4 tokens, prompts over 1,024, and over 2,048 together. With Llama 3's tokenizer 1,000
    of them are 217,393 prompt tokens and up to 201,847 generated ones (models may end early) in published outputs of
    that tool. Their spread: published lengths of the file's first 200 pairs (SemSched's ``sharegpt_lens.json``), of
    which the filter leaves 181, have coefficients of variation of 1.10 and 1.17. Medians and deviations below are those
    of lognormals that have these means and spreads once filtered.
    """
    return Single(
        text,
        "single questions with the lengths of ShareGPT_V3 as vllm bench serve samples it",
        LogNormal(168.4, 1.8368, 4, 1024),
        LogNormal(122.0, 1.0736, 4),
        most_tokens=2048,
    )


def _summarise(text: str) -> WorkloadWord:
    """Papers of arXiv and their abstracts up to 16,384 tokens together, as Sarathi-Serve's evaluation has them.

    Its table of datasets (OSDI 2024) has a median of 7,059 prompt tokens and a 90th percentile of 12,985; of answers
    208 and 371. Medians and deviations below are those of lognormals that have these once cut.
    """
    return Single(
        text,
        "long papers to short summaries, with the lengths of arXiv in Sarathi-Serve",
        LogNormal(7726.0, 0.6255),
        LogNormal(208.0, 0.4515),
        most_tokens=16384,
    )


def _code(text: str) -> WorkloadWord:
    """Code completion of Azure's trace of 2023 (Splitwise, ISCA 2024; 8,819 requests).

    Prompts of 1,469 tokens in the median and 2,048 in the mean, up to 7,437; completions of 13 and 28. Lognormals have
    these once cut; the 99th percentiles, which are not fitted, are 7,070 and 224 where the trace has 7,436 and 249. It
    says nothing about content: prompts share nothing.
    """
    return Single(
        text,
        "code completions with the lengths of Azure's trace of 2023",
        LogNormal(1803.1, 1.2552, 1, 7437),
        LogNormal(13.43, 1.2107, 1, 2000),
    )


def _chat(text: str) -> WorkloadWord:
    """``pd_trace`` of config.yaml: conversations and single questions over shared system prompts."""
    traffic = shipped_config().pd_trace

    def drawn(num_requests: int, rate_per_s: float, seed: int) -> Workload:
        from kvsim.workload.synthetic.chat import chat

        return chat(traffic, num_requests, rate_per_s, seed)

    return Sessions(
        text, "multi-turn chat over shared system prompts, pd_trace of config.yaml", drawn, traffic.think_time_s
    )


@dataclass
class _Rag(WorkloadWord):
    """``pd_trace`` of config.yaml: questions behind retrieved documents, by Zipf's law."""

    text: str
    what: str = "questions behind retrieved documents, pd_trace of config.yaml"

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        from kvsim.workload.synthetic.rag import rag

        check_requests(num_requests)
        return rag(shipped_config().pd_trace, num_requests, rate_per_s, seed)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        return at_most(self.generate(num_requests, 1.0, seed), concurrency)


def _agent(text: str) -> WorkloadWord:
    """``agent_trace`` of config.yaml as a request graph: agents whose tool results grow the context turn by turn.

    Three sub-agents follow 2% of the turns: an assumption, as no public trace has a usual number of them.
    """
    traffic = shipped_config().agent_trace

    def drawn(num_requests: int, rate_per_s: float, seed: int) -> Workload:
        from kvsim.workload.synthetic.agent import Spawning, agent_graph

        return agent_graph(traffic, num_requests, rate_per_s, seed, Spawning(share=0.02, subagents=3))

    return Sessions(text, "agents with tools and sub-agents, agent_trace of config.yaml", drawn, 0.0)


WORDS: Mapping[str, Callable[[str], WorkloadWord]] = {
    "sharegpt": _sharegpt,
    "chat": _chat,
    "rag": _Rag,
    "agent": _agent,
    "summarise": _summarise,
    "code": _code,
}
