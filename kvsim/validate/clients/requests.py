"""Requests one by one, as a client recorded them: what was sent, and the figures that are made of them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kvsim.errors import ConfigError
from kvsim.fields import MOST_COUNT, MOST_S
from kvsim.validate.clients.definitions import NO_TTFT, TPOT_OF_ROWS, itl_of_gaps
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import SentRows, Traffic
from kvsim.workload.workload import Floats

_MOST_TOKENS = 10_000_000
_MOST_CLOCK_S = 1e11
"""The latest reading of a clock: seconds from 1970 to the year 5138."""


class Row(NamedTuple):
    """One request as it was read, unchecked; ``None`` where nothing was recorded."""

    sent_s: Any
    prompt_tokens: Any
    output_tokens: Any
    ttft_s: Any
    e2e_s: Any
    answered: bool = True


_LIMITS = {
    "sent_s": _MOST_CLOCK_S,
    "prompt_tokens": _MOST_TOKENS,
    "output_tokens": _MOST_TOKENS,
    "ttft_s": MOST_S,
    "e2e_s": MOST_S,
}


@dataclass(frozen=True, eq=False)
class Requests:
    """Columns in the order of the file; ``nan`` where nothing was recorded."""

    sent_s: Floats
    """On any clock."""
    prompt_tokens: Floats
    output_tokens: Floats
    ttft_s: Floats
    e2e_s: Floats
    answered: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, file: str, rows: Iterable[Row]) -> Requests:
        """Raises ``ConfigError`` (file, request, value, what is allowed)."""
        columns = {name: array("d") for name in _LIMITS}
        answered = array("b")
        for number, row in enumerate(rows, 1):
            if number > MOST_COUNT:
                raise ConfigError(f"{file}: more than {MOST_COUNT:,} requests")
            for name, most in _LIMITS.items():
                value = getattr(row, name)
                if value is None or (not row.answered and name in ("output_tokens", "ttft_s", "e2e_s")):
                    value = math.nan
                elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                    allowed = f"must be a number from 0 to {most:g}"
                    raise ConfigError(f"{file}: request {number:,}: {name} = {value!r:.60}: {allowed}")
                columns[name].append(value)
            answered.append(row.answered)
        made = {name: np.frombuffer(column, dtype=np.float64) for name, column in columns.items()}
        return cls(**made, answered=np.frombuffer(answered, dtype=np.bool_))

    def __len__(self) -> int:
        return len(self.answered)

    @property
    def completed(self) -> int:
        """Requests with an answer."""
        return int(self.answered.sum())

    def mean_tokens(self) -> tuple[float, float]:
        """Tokens of a prompt and of an answer, over the requests that were answered; 0 where nothing was recorded."""
        found = (self.prompt_tokens[self.answered], self.output_tokens[self.answered])
        prompts, outputs = (float(np.nanmean(column)) if (~np.isnan(column)).any() else 0.0 for column in found)
        return prompts, outputs

    def span_s(self) -> float | None:
        """From the first request sent to the last answer; ``None`` where times were not recorded."""
        ends_s = (self.sent_s + self.e2e_s)[self.answered]
        if np.isnan(self.sent_s).any() or not len(ends_s) or np.isnan(ends_s).all():
            return None
        return float(np.nanmax(ends_s) - self.sent_s.min())

    def tpot_mean_s(self) -> float | None:
        """The mean over requests of (E2E - TTFT) / (n - 1)."""
        later, decoding_s = self._decoding()
        return float((decoding_s / later).mean()) if len(later) else None

    def itl_mean_s(self) -> float | None:
        """sum(E2E - TTFT) / sum(n - 1)."""
        later, decoding_s = self._decoding()
        return float(decoding_s.sum() / later.sum()) if len(later) else None

    def _decoding(self) -> tuple[Floats, Floats]:
        later, decoding_s = self.output_tokens - 1, self.e2e_s - self.ttft_s
        known = self.answered & (later > 0) & (decoding_s >= 0)
        return later[known], decoding_s[known]

    def sent_rows(self, limit: int | None) -> SentRows:
        """What was sent, in the order of sending. A request that has no answer is as long as the mean.

        Times are taken as they are unless a ``limit`` of requests in flight was reached: then a request was sent when
        another ended, and when that is depends on the server.
        """
        prompts, outputs = self.mean_tokens()
        order = np.arange(len(self))
        sent_s = None
        if not np.isnan(self.sent_s).any():
            order = np.argsort(self.sent_s, kind="stable")
            if limit is None or self._most_in_flight() < limit:
                sent_s = self.sent_s[order] - self.sent_s[order[0]]
        return SentRows(
            _tokens(self.prompt_tokens[order], prompts), _tokens(self.output_tokens[order], outputs), sent_s
        )

    def _most_in_flight(self) -> int:
        ends_s = self.sent_s + np.nan_to_num(self.e2e_s)
        times_s = np.concatenate((self.sent_s, ends_s))
        change = np.repeat([1, -1], len(self))
        return int(np.cumsum(change[np.lexsort((change, times_s))]).max())


def _tokens(found: Floats, mean: float) -> npt.NDArray[np.int32]:
    return np.maximum(1, np.round(np.where(np.isnan(found), mean, found))).astype(np.int32)


def statistics(values_s: Floats) -> dict[str, float]:
    """Mean and percentiles of what is known; nothing where nothing is."""
    known = values_s[~np.isnan(values_s)]
    if not len(known):
        return {}
    percents = np.percentile(known, [int(name[1:]) for name in PERCENTS])
    return {"mean": float(known.mean())} | dict(zip(PERCENTS, percents.tolist(), strict=True))


def recorded_traffic(requests: Requests) -> Traffic:
    """An open loop of the mean rate."""
    sent_s = requests.sent_s
    span_s = float(sent_s.max() - sent_s.min()) if len(sent_s) else 0.0
    rate_per_s = (len(sent_s) - 1) / span_s if span_s > 0 else math.inf
    return Traffic(requests=0, rate_per_s=rate_per_s, prompt_tokens=0, output_tokens=0)


def result_of(
    requests: Requests,
    traffic: Traffic,
    *,
    name: str,
    client: str,
    span_s: float | None = None,
    gaps_s: Mapping[str, float] | None = None,
    model: str | None = None,
    goodput_requests_per_s: float | None = None,
    assumed: tuple[str, ...] = (),
) -> ClientResult:
    """The figures of ``requests``; of ``traffic`` counts and lengths are theirs.

    ``span_s``: how long the run took, if the client says; ``gaps_s``: between chunks of answers. Raises ``ConfigError``
    where the requests have no lengths or no time.
    """
    prompts, outputs = requests.mean_tokens()
    span_s = span_s or requests.span_s()
    if requests.completed and not span_s:
        raise ConfigError(f"{name}: does not say how long the run took")
    itl_s, itl_words = itl_of_gaps(requests.itl_mean_s(), gaps_s or {})
    ttft_s = statistics(requests.ttft_s[requests.answered])
    return ClientResult(
        name=name,
        client=client,
        traffic=replace(
            traffic,
            requests=len(requests),
            prompt_tokens=prompts,
            output_tokens=outputs,
            rows=requests.sent_rows(traffic.max_in_flight) if requests.completed else None,
        ),
        completed=requests.completed,
        failures=len(requests) - requests.completed,
        requests_per_s=requests.completed / span_s if span_s else 0.0,
        output_tokens_per_s=requests.completed * outputs / span_s if span_s else 0.0,
        ttft_s=ttft_s,
        e2e_s=statistics(requests.e2e_s[requests.answered]),
        tpot_mean_s=requests.tpot_mean_s(),
        itl_s=itl_s,
        definitions=(TPOT_OF_ROWS, *((itl_words,) if gaps_s else ())) if ttft_s else (NO_TTFT,),
        model=model,
        goodput_requests_per_s=goodput_requests_per_s,
        assumed=("prompts share nothing", *assumed),
        rows=requests,
    )
