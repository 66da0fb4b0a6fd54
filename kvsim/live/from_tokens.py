"""A first guess at step times, without any simulation: what came between an answer's tokens.

An answer gets a token a step. So between its first and its last token there were as many steps as it has further
tokens; and what these steps did is told by what else came meanwhile: each token that another answer got is one that
they decoded, each first token of another is a prompt that they computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvsim.live.robust import robust
from kvsim.live.served import Chosen, Served
from kvsim.validate.accuracy import Floats


def first_values(runs: Sequence[Served], learned: Sequence[Chosen], least: Floats) -> Floats:
    """The numbers of ``kvsim.live.forms.WHOLE``."""
    rows, seconds, quickest = [], [], []
    for run, chosen in zip(runs, learned, strict=True):
        requests = run.requests
        later = requests["output_tokens"] - 1
        used = chosen & (later > 0) & (requests["finish_s"] > requests["first_token_s"])
        between = _done(run, requests["finish_s"][used]) - _done(run, requests["first_token_s"][used])
        rows.append(np.column_stack((later[used], between)))
        seconds.append((requests["finish_s"] - requests["first_token_s"])[used])
        computed = np.maximum(requests["prompt_tokens"] - np.nan_to_num(requests["hit_tokens"]), 1.0)
        quickest.append(((requests["first_token_s"] - requests["arrival_s"]) / computed)[chosen])
    all_rows, all_seconds = np.vstack(rows), np.concatenate(seconds)
    # A prompt's token takes no more than in the requests that waited least.
    most_s = float(np.percentile(np.concatenate(quickest), 10))
    if not len(all_seconds):
        alone: Floats = np.maximum(np.array([most_s, most_s, 0.0, 0.0, 0.0]), least)
        return alone
    # One answer takes as long as its length: each counts by its time a token.
    found = robust(all_rows, all_seconds, 1 / all_rows[:, 0], least)
    if not all_rows[:, 1].any() or found[1] <= 0:
        found[1] = most_s / 2
    return found


def _done(run: Served, times_s: Floats) -> Floats:
    """Tokens, sequences, KV tokens read and attention of prompts in the steps up to each time, as tokens tell."""
    requests, counts = run.requests, np.diff(run.token_offsets)
    owner = np.repeat(np.arange(len(run)), counts)
    place = np.arange(len(run.token_s)) - np.repeat(run.token_offsets[:-1], counts)
    is_first = place == 0
    prompt = requests["prompt_tokens"][owner]
    hit = np.nan_to_num(requests["hit_tokens"])[owner]
    computed = np.maximum(prompt - hit, 1.0)
    done = np.column_stack(
        (
            np.where(is_first, computed, 1.0),
            np.ones(len(owner)),
            np.where(is_first, 0.0, prompt + place),
            np.where(is_first, computed * (hit + computed / 2), 0.0),
        )
    )
    order = np.argsort(run.token_s, kind="stable")
    sums = np.vstack((np.zeros(done.shape[1]), np.cumsum(done[order], axis=0)))
    found: Floats = sums[np.searchsorted(run.token_s[order], times_s, side="right")]
    return found
