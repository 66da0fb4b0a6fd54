"""How much KV memory does contiguous allocation waste, and what do pages and seats buy?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import bars
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, VLLM_LLAMA, cell, share
from kvsim.record.labels import number, percent
from kvsim.study.pictures import PALETTE, figure_of
from kvsim.workload.words import word_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kvsim.workload.workload import Counts, Ints

WORKLOAD = "sharegpt"
KV_TOKENS = 19_200
"""A small KV cache, so that it binds."""
PAGE_TOKENS = 16
MAX_TOKENS = 2048
"""What an engine that allocates at once reserves for every request."""
BLOCK_SIZES = (1, 16, 32, 64, 128, 256)
SEATS = (8, 16, 32, 64, 128)
Reserved = Callable[["Ints", int], "Ints"]
"""From the tokens that a request holds, one step after the other, and the most it may get, to what is kept for it."""


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """One way to allocate, or one number of seats."""

    sweep: str
    setting: str
    waste_share: float | None
    """The share of what is kept for running requests, over the steps of their answers, that holds no token."""
    requests_at_once: float
    """How many fit in the mean, or ran in the mean."""
    output_tokens_per_s: float | None
    preemptions: int | None


def ask(desk: Desk) -> Answer[MemoryRow]:
    """Ways to allocate by arithmetic over ShareGPT's lengths; seats by serving them."""
    drawn = word_of(WORKLOAD).generate(desk.requests(200), 1.0, desk.seed)
    prompts, answers = drawn.prompt_tokens, drawn.output_tokens
    fits = prompts + answers <= MAX_TOKENS
    ways: list[tuple[str, Reserved]] = [
        (f"whole: {MAX_TOKENS:,} tokens", lambda held, _: np.full_like(held, MAX_TOKENS)),
        ("whole: answer's power of two", _power_of_two),
        ("whole: length known before", lambda held, most: np.full_like(held, most)),
        *((f"pages of {size}", _pages(size)) for size in BLOCK_SIZES),
    ]
    rows = [_allocated(name, prompts[fits], answers[fits], reserved) for name, reserved in ways]
    line = f"{VLLM_LLAMA} --num-gpu-blocks-override {KV_TOKENS // PAGE_TOKENS}"
    asked = [
        Asked(
            line=f"{line} --max-num-seqs {seats}",
            gpu=H100,
            workload=WORKLOAD,
            requests=desk.requests(200),
            keeps_steps=True,
        )
        for seats in SEATS
    ]
    rows += [_seated(seats, served) for seats, served in zip(SEATS, desk.serve(*asked), strict=True)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=tuple(_beside(rows)), asked=tuple(asked))


def _power_of_two(held: Ints, most: int) -> Ints:
    answer = most - int(held[0]) + 1
    return np.full_like(held, most - answer + (1 << (answer - 1).bit_length()))


def _pages(size: int) -> Reserved:
    return lambda held, _: -(-held // size) * size


def kept(prompts: Counts, answers: Counts, reserved: Reserved) -> tuple[int, int]:
    """Tokens held and tokens kept, summed over the steps of every answer: at its k-th step a request holds its prompt
    and k tokens."""
    held_sum = kept_sum = 0
    for prompt, answer in zip(prompts.tolist(), answers.tolist(), strict=True):
        held = prompt + np.arange(1, answer + 1)
        held_sum += int(held.sum())
        kept_sum += int(reserved(held, prompt + answer).sum())
    return held_sum, kept_sum


def _allocated(name: str, prompts: Counts, answers: Counts, reserved: Reserved) -> MemoryRow:
    held, whole = kept(prompts, answers, reserved)
    return MemoryRow(
        sweep="allocation",
        setting=name,
        waste_share=1 - held / whole,
        requests_at_once=KV_TOKENS * int(answers.sum()) / whole,
        output_tokens_per_s=None,
        preemptions=None,
    )


def _seated(seats: int, served: Served) -> MemoryRow:
    return MemoryRow(
        sweep="max-num-seqs",
        setting=str(seats),
        waste_share=None,
        requests_at_once=float(served.e2e_ms.sum() - served.queue_ms.sum()) / 1e3 / served.duration_s,
        output_tokens_per_s=served.output_tokens_per_s,
        preemptions=served.preemptions,
    )


def _by_setting(rows: Sequence[MemoryRow], name: str) -> MemoryRow:
    return next(row for row in rows if row.setting == name)


def _sentence(rows: Sequence[MemoryRow]) -> str:
    whole, pages = _by_setting(rows, f"whole: {MAX_TOKENS:,} tokens"), _by_setting(rows, "pages of 16")
    served = [row for row in rows if row.output_tokens_per_s is not None]
    most = max(row.output_tokens_per_s or 0.0 for row in served)
    enough = next(row for row in served if (row.output_tokens_per_s or 0.0) > 0.98 * most)
    last = served[-1]
    more = f", and {last.setting} {_speed(last)}" if last is not enough else ""
    return (
        f"keeping {MAX_TOKENS:,} tokens for every request wastes {percent(whole.waste_share)} of them, pages of 16 "
        f"{percent(pages.waste_share)}: {number(pages.requests_at_once)} requests fit instead of "
        f"{number(whole.requests_at_once)}; seats buy throughput as long as memory is left: {enough.setting} reach "
        f"{_speed(enough)}{more} (ShareGPT's lengths, {KV_TOKENS:,} tokens of KV, Llama-3.1-8B on one H100)"
    )


def _speed(row: MemoryRow) -> str:
    return f"{number(row.output_tokens_per_s)} tokens/s with {row.preemptions} preemptions"


def _beside(rows: Sequence[MemoryRow]) -> Iterator[Beside]:
    source = "PagedAttention (Kwon et al. 2023, SOSP), figure 2: OPT-13B, ShareGPT, Orca's rules and vLLM"
    pages = _by_setting(rows, "pages of 16").waste_share or 0.0
    for name, setting, theirs in (
        ("the longest length", f"whole: {MAX_TOKENS:,} tokens", 0.204),
        ("a power of two", "whole: answer's power of two", 0.268),
        ("the known length", "whole: length known before", 0.382),
        ("pages of 16", "pages of 16", 0.963),
    ):
        waste = _by_setting(rows, setting).waste_share or 0.0
        yield Beside(
            what=f"tokens in what is kept, {name}",
            theirs=percent(theirs),
            ours=percent(1 - waste),
            same_sign=waste > pages if theirs < 0.9 else waste < 0.1,
            source=source,
            why_not_equal="arithmetic without the holes between requests that an allocator leaves, lengths of its own",
        )


def _figure(answer: Answer[MemoryRow]) -> Figure:
    figure, (waste, seats) = figure_of("KV memory, whole and in pages", "ShareGPT's lengths, 19,200 tokens of KV", 2)
    own = {row.setting: 100 * row.waste_share for row in answer.rows if row.waste_share is not None}
    names = [name.replace("whole: ", "") for name in own]
    waste.barh(range(len(own)), list(own.values()), color=PALETTE[0])
    waste.set_yticks(range(len(own)), names)
    waste.invert_yaxis()
    waste.set_xlabel("wasted (%)")
    found = {row.setting: row.output_tokens_per_s for row in answer.rows if row.output_tokens_per_s is not None}
    bars(seats, found, "output tokens/s", colour=PALETTE[2])
    seats.set_xlabel("max-num-seqs")
    return figure


LAB = Lab(
    title="KV memory: waste by allocation, throughput by seats",
    ask=ask,
    columns={
        "sweep": cell("sweep"),
        "setting": cell("setting"),
        "waste": share("waste_share"),
        "requests at once": cell("requests_at_once"),
        "tokens/s": cell("output_tokens_per_s"),
        "preemptions": cell("preemptions"),
    },
    figure=_figure,
)
