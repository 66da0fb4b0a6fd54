"""What became of each prompt token, counted block by block with dictionaries: an own account of ``prefixes.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvsim.record.result import SystemResult
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload

CLASSES = ("cold", "off", "partial", "last", "evicted", "elsewhere", "answers", "pending")


@dataclass
class Served:
    """One completed request and its prompt."""

    row: int
    request: Request
    instance: int
    prompt: int
    hit: int
    admitted_s: float
    prefilled_s: float
    released_s: float
    outputs: int
    begin: int
    """Tokens of its answer's chain that its prompt had."""
    shared: int = 0
    classes: dict[str, int] = field(default_factory=dict)

    def place(self, token: int) -> tuple[int, int]:
        """The chain of a token of the prompt, or behind it of the answer, and its place there."""
        for chain, tokens in self.request.pieces:
            if token < tokens:
                return chain, token
            token -= tokens
        return self.request.output_chain, self.begin + token


@dataclass(frozen=True)
class Written:
    """Up to where a request computed a chain, when that was there, and until when it used it."""

    reach: int
    at_s: float
    released_s: float
    instance: int
    is_answer: bool
    request_id: int


@dataclass
class Account:
    """The requests of a result in the order of their arrival."""

    served: list[Served]
    written: dict[int, list[Written]]
    block: int
    is_pd: bool

    def total(self, name: str) -> int:
        return sum(each.classes.get(name, 0) for each in self.served)

    def key(self, request: Served, block: int) -> tuple[int, int]:
        """What tells that block of the request's tokens from others."""
        return request.place((block + 1) * self.block - 1)

    def blocks(self, request: Served) -> set[tuple[int, int]]:
        """The full blocks of a request's prompt and, where it is generated there, of its answer."""
        end = request.prompt + (0 if self.is_pd else request.outputs - 1)
        return {self.key(request, block) for block in range(end // self.block)}

    def wrote(self, request: Served, block: int, *, here: bool = False) -> list[Written]:
        """Who had computed that block of the request's prompt when it was admitted; ``here``: on its own instance."""
        chain, place = request.place((block + 1) * self.block - 1)
        found = [one for one in self.written.get(chain, ()) if one.reach > place and one.at_s <= request.admitted_s]
        return [one for one in found if one.instance == request.instance] if here else found


def account_of(
    workload: Workload,
    result: SystemResult,
    block: int,
    *,
    enabled: bool = True,
    in_order: bool = True,
    forwards: bool = True,
    first: int | None = None,
) -> Account:
    """``in_order``: of arrival, which admission keeps. ``forwards``: prefill instances give the first token. ``first``:
    of so many requests only, the first to arrive."""
    table, is_pd = result.table, result.transfer is not None
    asked_s = table["arrival_s"] + (0.0 if in_order else table["proxy_s"] + table["queue_s"])
    rows = sorted(range(len(asked_s)), key=lambda row: (asked_s[row], table["request_id"][row]))
    served = [_served(workload, result, row, is_pd, forwards) for row in rows[:first]]
    written: dict[int, list[Written]] = {}
    asked: dict[int, int] = {}
    for each in served:
        each.shared = _shared(each, asked)
        for chain, tokens in each.request.pieces:
            own = Written(tokens, each.prefilled_s, each.released_s, each.instance, False, each.request.request_id)
            written.setdefault(chain, []).append(own)
            asked[chain] = max(asked.get(chain, 0), tokens)
        finish_s, chain = table["finish_s"][each.row], each.request.output_chain
        answer = Written(
            each.begin + each.outputs - 1, finish_s, finish_s, each.instance, True, each.request.request_id
        )
        written.setdefault(chain, []).append(answer)
        asked[chain] = max(asked.get(chain, 0), each.begin + each.outputs)
    found = Account(served, written, block, is_pd)
    for each in served:
        each.classes = _classes(found, each, enabled=enabled, evicts=result.cache.evicted_blocks > 0)
    return found


def _served(workload: Workload, result: SystemResult, row: int, is_pd: bool, forwards: bool) -> Served:
    value = {name: float(column[row]) for name, column in result.table.items()}
    request = workload.request(int(value["request_id"]))
    prefilled_s = value["first_token_s"] - value["transfer_s"] - value["decode_wait_s"] - value["first_decode_s"]
    last, tokens = request.pieces[-1]
    return Served(
        row,
        request,
        int(value["prefill_instance"]),
        int(value["prompt_tokens"]),
        int(value["prompt_tokens"] - value["computed_tokens"]),
        value["arrival_s"] + value["proxy_s"] + value["queue_s"],
        prefilled_s,
        value["finish_s"] if not is_pd else value["first_token_s"] if forwards else prefilled_s + value["transfer_s"],
        int(value["output_tokens"]),
        tokens if last == request.output_chain else 0,
    )


def _shared(each: Served, asked: dict[int, int]) -> int:
    found = 0
    for chain, tokens in each.request.pieces:
        had = min(asked.get(chain, 0), tokens) if chain >= 0 else 0
        found += had
        if had < tokens:
            break
    return found


def _classes(account: Account, each: Served, *, enabled: bool, evicts: bool) -> dict[str, int]:
    found, block = dict.fromkeys(CLASSES, 0), account.block
    if not enabled:
        return found | {"cold": each.prompt - each.shared, "off": each.shared}
    at = each.hit
    while at < each.prompt:
        end = (at // block + 1) * block
        if at >= each.shared:
            found["cold"] += each.prompt - at
            break
        if end > min(each.shared, each.prompt):
            found["partial"] += min(end, each.shared) - at
            at = min(end, each.shared)
            continue
        name = "last" if end > (each.prompt - 1) // block * block else _why(account, each, at // block, evicts)
        found[name] += end - at
        at = end
    return found


def _why(account: Account, each: Served, block: int, evicts: bool) -> str:
    by = account.wrote(each, block)
    if any(one.instance == each.instance and not (one.is_answer and account.is_pd) for one in by):
        return "evicted" if evicts else "pending"
    if any(not one.is_answer for one in by):
        return "elsewhere"
    return "answers" if by else "pending"
