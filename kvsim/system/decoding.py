"""What decodes add to the time of a step."""

from __future__ import annotations

from kvsim.steptime import Coefficients
from kvsim.system.answers import DecodeLoad
from kvsim.workload.workload import Floats


def decoding_s(c: Coefficients, load: DecodeLoad) -> float:
    """What a batch adds to the dense time of a step that only decodes."""
    straggle_tokens = load.longest_tokens - load.kv_tokens_per_seq if load.num_seqs >= c.straggler_min_seqs else 0.0
    return (
        c.a_s_per_kv_token * load.num_seqs * c.read_tokens(load.kv_tokens_per_seq)
        + c.straggler_s_per_token * max(straggle_tokens, 0.0)
        + (c.s_s_per_seq + c.decode_s_per_seq) * load.num_seqs
    )


def decoding_beside_s(c: Coefficients, load: DecodeLoad, prefilled_tokens: Floats) -> Floats:
    """What a batch adds to the dense time of steps that also compute so many tokens of prompts."""
    straggle_tokens = max(load.longest_tokens - load.kv_tokens_per_seq, 0.0)
    straggle_s = c.straggler_mixed_s_per_token * straggle_tokens
    if not c.straggler_mixed_s_per_token and load.num_seqs >= c.straggler_min_seqs:
        straggle_s = c.straggler_s_per_token * straggle_tokens
    per_seq_s = c.s_s_per_seq + c.decode_mixed_s_per_seq + c.decode_mixed_s_per_seq_token * prefilled_tokens
    attention_s = c.a_mixed_s_per_kv_token * load.num_seqs * c.read_tokens(load.kv_tokens_per_seq)
    found: Floats = attention_s + straggle_s + load.num_seqs * per_seq_s
    return found
