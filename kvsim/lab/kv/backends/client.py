"""A client of servers that are up: phases one after the other, each with the server's counters before and after."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

from kvsim.lab.kv.deployed import CacheFacts
from kvsim.lab.kv.expected import Expected, expected
from kvsim.lab.kv.phases import Phase, Repeat
from kvsim.lab.kv.rows import OK, Rows, Seen, ServerSide
from kvsim.measure import MeasuredRun, RequestRow, Sending, Server, measure
from kvsim.validate.clients.measured import MeasuredRow, rows_of

METRICS_S = 0.25
"""Between readings of how much of the KV cache is taken."""
TIMEOUT_S = 10.0
NOT_SENT = "not_sent"
_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def told_facts(server: Server) -> tuple[dict[str, str], int | None]:
    """What a server says of its cache, by vLLM's names, and the longest request that it takes; empty and ``None`` where
    it does not say. Raises ``ConfigError`` where there is no HTTP client."""
    from kvsim.measure.measure import ensure_client

    ensure_client()
    metrics, models = asyncio.run(_texts(server, "/metrics", "/v1/models"))
    found = _INFO.search(metrics)
    labels = dict(_LABEL.findall(found.group(1))) if found is not None else {}
    return labels, _longest(models)


async def _texts(server: Server, *paths: str) -> list[str]:
    from kvsim.measure.connection import FAILURES, Connection

    connection = Connection(server, TIMEOUT_S, TIMEOUT_S)
    found = []
    try:
        for path in paths:
            try:
                found.append(await connection.text(path))
            except FAILURES:
                found.append("")
    finally:
        await connection.close()
    return found


def _longest(models: str) -> int | None:
    try:
        longest = json.loads(models)["data"][0]["max_model_len"]
    except (ValueError, LookupError, TypeError):
        return None
    return longest if isinstance(longest, int) else None


def facts_of(labels: dict[str, str], longest: int | None, line: CacheFacts) -> CacheFacts:
    """What the server says, and for the rest what its line leads to."""
    size, blocks = (_count(labels.get(name)) for name in ("block_size", "num_gpu_blocks"))
    return CacheFacts(
        block_size=size or line.block_size,
        blocks=line.blocks if blocks is None else blocks - 1,  # the null block holds nothing
        max_model_len=longest or line.max_model_len,
        inexact=line.inexact,
    )


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and int(text) else None


class Client:
    """Who sends the phases of repeats to a server."""

    def __init__(self, server: Server, facts: CacheFacts) -> None:
        self._server, self._facts = server, facts
        self.told: dict[str, object] = {}
        """What the server said of itself."""
        self.beyond = 0
        """Requests of which more was found cached than anything that was sent explains."""

    def phases(self, repeat: Repeat, phases: Sequence[Phase], rows: Rows) -> None:
        """Send the phases of one engine. Raises ``KeyboardInterrupt`` where they were interrupted."""
        for phase, hits in zip(phases, expected(phases, self._facts), strict=True):
            if phase.warm_up is not None:
                self._sent(repeat, phase, warm_up=True)
            run = self._sent(repeat, phase, warm_up=False)
            self.told = dict(run.server) | {"model": run.model}
            seen = seen_of(run, phase)
            self._look_for_strangers(seen, hits)
            rows.add(repeat, phase, seen, hits, self._counted(run))

    def _sent(self, repeat: Repeat, phase: Phase, *, warm_up: bool) -> MeasuredRun:
        workload = phase.warm_up if warm_up and phase.warm_up is not None else phase.counted
        sending = Sending(content_seed=repeat.content_seed, metrics_interval_s=None if warm_up else METRICS_S)
        run = measure(self._server, workload, sending, words=phase.name, content=repeat.content)
        if run.incomplete:
            raise KeyboardInterrupt
        return run

    def _look_for_strangers(self, seen: Sequence[Seen], hits: Expected) -> None:
        pairs = zip(seen, hits.hits, strict=True)
        self.beyond += sum((each.cached_tokens or 0) > hit for each, hit in pairs if hit is not None)

    def _counted(self, run: MeasuredRun) -> ServerSide:
        metrics = run.metrics
        queries, hits = metrics.counted("prefix_queries"), metrics.counted("prefix_hits")
        preemptions = metrics.counted("preemptions")
        usage = [sample.kv_usage for sample in metrics.samples if sample.kv_usage is not None]
        return ServerSide(
            counters="none" if queries is None or hits is None else "direct",
            prefix_queries=queries,
            prefix_hits=hits,
            preemptions=None if preemptions is None else round(preemptions),
            kv_tokens=self._facts.kv_tokens,
            kv_usage_max=max(usage, default=None),
        )

    def notes(self) -> list[str]:
        """Sentences on what was found."""
        if not self.beyond:
            return []
        return [
            f"{self.beyond:,} requests found more cached than was sent before them: the server knew these prompts; "
            "another --seed has prompts that it does not know"
        ]


def seen_of_rows(name: str, text: bytes, phase: Phase) -> tuple[dict[str, Any], list[Seen]]:
    """A file of rows as ``kvsim measure`` writes it: the run's own facts, and its requests by their places."""
    about, *documents = map(json.loads, text.decode().splitlines())
    return about, _seen(list(rows_of(name, documents)), phase, float(about["duration_s"]))


def seen_of(run: MeasuredRun, phase: Phase) -> list[Seen]:
    """The requests of a measured phase by their places."""
    return _seen(run.rows, phase, run.duration_s)


def _seen(rows: Sequence[RequestRow] | Sequence[MeasuredRow], phase: Phase, duration_s: float) -> list[Seen]:
    by_place = {row.request_id: row for row in rows}
    found = []
    for place, request in enumerate(phase.counted):
        row = by_place.get(place)
        if row is None:
            found.append(_not_sent(request.prompt_tokens, duration_s))
            continue
        found.append(
            Seen(
                sent_s=row.sent_s,
                first_token_s=row.first_token_s,
                finish_s=row.finish_s if row.status == OK else None,
                prompt_tokens=row.prompt_tokens,
                output_tokens=row.output_tokens,
                cached_tokens=row.cached_tokens,
                status=row.status,
            )
        )
    return found


def _not_sent(prompt_tokens: int, at_s: float) -> Seen:
    return Seen(
        sent_s=at_s,
        first_token_s=None,
        finish_s=None,
        prompt_tokens=prompt_tokens,
        output_tokens=0,
        cached_tokens=None,
        status=NOT_SENT,
    )
