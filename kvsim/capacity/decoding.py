"""What decodes add to the time of a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim.capacity.decode_residency import DecodeLoad
from kvsim.steptime import Coefficients
from kvsim.workload.workload import Floats


@dataclass(frozen=True, eq=False)
class Decoding:
    """The decodes of steps, an entry a step."""

    num_seqs: Floats
    mean_tokens: Floats
    """KV that each of them reads."""
    longest_tokens: Floats

    @classmethod
    def of(cls, load: DecodeLoad) -> Decoding:
        return cls(*map(np.array, (load.num_seqs, load.kv_tokens_per_seq, load.longest_tokens)))

    @property
    def beyond_mean_tokens(self) -> Floats:
        found: Floats = np.maximum(self.longest_tokens - self.mean_tokens, 0.0)
        return found


def pure_s(c: Coefficients, decoding: Decoding) -> Floats:
    """Steps that only decode."""
    num_seqs = decoding.num_seqs
    straggle_tokens = np.where(num_seqs >= c.straggler_min_seqs, decoding.beyond_mean_tokens, 0.0)
    found: Floats = (
        c.dense_s(num_seqs * (1 + c.drafts_per_seq))
        + c.a_s_per_kv_token * num_seqs * c.read_tokens(decoding.mean_tokens)
        + c.straggler_s_per_token * straggle_tokens
        + (c.s_s_per_seq + c.decode_s_per_seq) * num_seqs
    )
    return found


def mixed_s(c: Coefficients, decoding: Decoding, prefilled_tokens: Floats) -> Floats:
    """Steps that also compute so many tokens of prompts, less what their chunks cost by themselves."""
    num_seqs, beyond_tokens = decoding.num_seqs, decoding.beyond_mean_tokens
    straggle_s = c.straggler_mixed_s_per_token * beyond_tokens
    if not c.straggler_mixed_s_per_token:
        straggle_s = np.where(num_seqs >= c.straggler_min_seqs, c.straggler_s_per_token * beyond_tokens, 0.0)
    per_seq_s = c.s_s_per_seq + c.decode_mixed_s_per_seq + c.decode_mixed_s_per_seq_token * prefilled_tokens
    attention_s = c.a_mixed_s_per_kv_token * num_seqs * c.read_tokens(decoding.mean_tokens)
    tokens = num_seqs * (1 + c.drafts_per_seq) + prefilled_tokens
    found: Floats = c.dense_s(tokens) + attention_s + straggle_s + num_seqs * per_seq_s
    return found
