"""The settings of one engine, by vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kvsim.pickling import by_fields
from kvsim.spec.kv_groups import kept_blocks

KV_GROUP_KINDS = ("full", "window", "chunk", "state")
"""Kinds of layers that the hybrid KV cache manager knows: with full attention, with a sliding window, with attention
within chunks, and with a state instead of KV (linear attention, state space)."""


@dataclass(frozen=True, slots=True)
class KvGroup:
    """Layers that share a block table of their own over the engine's one pool of blocks."""

    kind: str
    """One of ``KV_GROUP_KINDS``."""
    tokens: int = 0
    """Size of the window or of the chunks; 0 for the other kinds."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


HIDDEN_STATE_METHODS = ("eagle", "eagle3", "mtp")
"""Methods whose drafts come from the target's hidden states."""
SPECULATIVE_METHODS = (*HIDDEN_STATE_METHODS, "draft_model", "ngram")
"""vLLM's names of the methods that are known."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Speculative decoding of one engine: what its scheduler asks of vLLM's ``SpeculativeConfig``, and how often drafts
    are accepted."""

    method: str
    """One of ``SPECULATIVE_METHODS``."""
    num_tokens: int
    """Drafts of a sequence and step."""
    acceptance: tuple[float, ...] = ()
    """By position, one for each draft: the share of the steps with drafts in which it is accepted, and so are all
    before it. Never rising. What vLLM's counters by position give over ``num_drafts``."""
    proposed_share: float = 1.0
    """Share of the steps of a sequence after which there are drafts at all."""
    seed: int = 0
    """Seed of the acceptances; with the request's number it decides them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    @property
    def lookahead_tokens(self) -> int:
        """Tokens behind those of a step that blocks are held for: the drafter writes KV there."""
        return 0 if self.method == "ngram" else self.num_tokens

    @property
    def draft_slots(self) -> int:
        """Tokens of the step's budget that each scheduled sequence takes beside its own: vLLM's
        ``max_num_new_slots_for_drafting``."""
        return 1 if self.method == "draft_model" else 0

    @property
    def drops_last_hit(self) -> bool:
        """Whether the last block that a lookup finds is computed again, for the hidden states that drafts need."""
        return self.method in HIDDEN_STATE_METHODS

    @property
    def mean_accepted(self) -> float:
        """Drafts that a step accepts in the mean, where no answer ends."""
        return self.proposed_share * sum(self.acceptance)

    @property
    def tokens_per_step(self) -> float:
        """What a sequence gets by a step in the mean, where its answer does not end."""
        return 1.0 + self.mean_accepted

    @property
    def overshoot_tokens(self) -> float:
        """By how much the last step of an answer would go beyond its end in the mean: (E X^2 - E X) / (2 E X) of a
        step's tokens X, by renewal theory."""
        rising = 2.0 * self.proposed_share * sum([(place + 1) * share for place, share in enumerate(self.acceptance)])
        return rising / (2.0 * self.tokens_per_step)

    def most_ahead(self, async_scheduling: bool) -> int:
        """Tokens behind those of a whole sequence that it may need blocks for: the drafts of a step, those of one that
        is scheduled ahead of another's output, and what the drafter writes behind them."""
        drafts = 2 * self.num_tokens + 1 if async_scheduling else self.num_tokens
        return drafts - 1 + self.lookahead_tokens


@dataclass(frozen=True, slots=True)
class SchedulerRules:
    """What vLLM's scheduler has not always done. The defaults are 0.32's; ``rules_of`` has those of older versions."""

    threshold_spares_lone: bool = True
    """``long_prefill_token_threshold`` does not cut the prompt of a request that is alone."""
    blank_blocks_first: bool = True
    """Released blocks that cache nothing are the next to be taken, not the last ones."""
    window_blanks_first: bool = True
    """Blank blocks of layers with a window, and those that fall behind it, are the next to be taken."""
    keeps_turns: bool = True
    """Who is preempted for priority's sake before its turn came costs nobody behind it theirs."""
    padding: str = "fitting"
    """Speculative decoding: which sequences that are admitted with one token get drafts that are none: ``fitting``, all
    but those that would be too long by them; ``decodes``, those beside others that decode, which wait where they would
    be too long; ``none``."""
    draft_slots: str = "request"
    """Speculative decoding: whose drafting takes of a step's budget: ``request``, that of each scheduled one; ``seat``,
    that of ``max_num_seqs``; ``none``."""
    admits_with_lookahead: bool = True
    """Speculative decoding: admission takes blocks for what the drafter writes, too."""
    keeps_in_flight: bool = True
    """Groups of layers: what lies behind a window is freed once the tokens before are computed, not scheduled; and
    what may be in flight counts as held."""
    caps_reservation: bool = True
    """Groups of layers: room for a whole sequence is for what it holds at a time, not for all its blocks."""
    agrees_at_once: bool = True
    """With full attention and one other kind of layers a lookup goes through both once, not until they agree."""
    frees_passed_states: bool = True
    """States that prompts' chunks have passed are freed, even those that are passed two steps later."""
    waits_for_states: bool = True
    """Nobody hits a state in the step that computes it."""
    refreshes_states: bool = True
    """Nobody hits the last state of a prompt in a step that has the prompt's sequence."""
    stops_at_junctions: bool = True
    """A prompt's chunks with states end where a known prefix ends that no state is kept of."""
    remembers_junctions: bool = True
    """Chunks after the first stop at junctions, too."""
    aligns_resumed: bool = True
    """What is computed again after a preemption is cut as a new prompt is."""
    aligns_last_chunks: bool = True
    """Chunks of prompts with states end at blocks' edges up to the prompt's end, not to the last cached state alone."""
    last_state_before_end: bool = True
    """The last state of a prompt that is cached is before its last token, not behind it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


@dataclass(frozen=True, slots=True)
class SglangSettings:
    """What SGLang's scheduler is asked beside what vLLM's is, by SGLang's names."""

    enable_mixed_chunk: bool = False
    """Answers go on beside prompts that are cut into chunks; else they stand while a step computes prompts."""
    max_prefill_tokens: int = 16_384
    """Prompt tokens of a step, whether prompts are cut or not."""
    schedule_conservativeness: float = 1.0
    """Factor on the share of its longest answer that a running request is reckoned to use yet."""
    ignore_eos: bool = True
    """Answers are known to get as long as they may, so that no share is taken of that."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


@dataclass(frozen=True, slots=True)
class AdapterLoads:
    """What bringing a LoRA adapter into a slot takes."""

    max_loras: int
    """Slots on the GPUs."""
    max_cpu_loras: int
    """Copies in host memory, those of the slots' adapters included."""
    host_s: float
    """Seconds from host memory to all GPUs."""
    disk_s: float
    """Seconds from disk to host memory."""
    used: int
    """Adapters that requests go to, numbered from 0."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """vLLM's engine arguments, for one role."""

    num_blocks: int
    """Blocks that hold KV: vLLM's ``num_gpu_blocks`` less the null block."""
    block_size: int
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    long_prefill_token_threshold: int
    watermark: float
    scheduler_reserve_full_isl: bool = True
    """Admission needs room for the whole sequence rather than for its first chunk."""
    scheduling_policy: str = "fcfs"
    """Order of the waiting queue, one of ``kvsim.policy.scheduling.ORDERS``."""
    prefix_cache: str = "paged"
    """``paged`` or ``radix``."""
    kv_groups: tuple[KvGroup, ...] = ()
    """Groups of layers with block tables of their own, in vLLM's order (hybrid KV cache manager); none: all layers are
    one group that keeps every token."""
    async_scheduling: bool = False
    """A step is scheduled while the one before it runs, without its outcome."""
    batching: str = "continuous"
    """``continuous``, or ``static``: nobody is admitted while somebody decodes."""
    output_margin_tokens: int = 0
    """Decode role: tokens of an answer that room is kept for when its KV is reserved (decode reservation)."""
    stepwise: bool = False
    """One event per step instead of leaps."""
    speculation: Speculation | None = None
    """``None``: no speculative decoding."""
    max_loras: int = 0
    """LoRA adapters in one step at most; 0: as many as there are."""
    adapter_loads: AdapterLoads | None = None
    """``None``: adapters are in their slots at once."""
    rules: SchedulerRules = SchedulerRules()
    """By the engine's version."""
    pipeline_parallel: int = 1
    """Stages of the pipeline that its layers are; 1: there is none."""
    sglang: SglangSettings | None = None
    """``None``: vLLM's scheduler; else SGLang's, whose chunks of prompts are ``max_num_batched_tokens`` in all."""
    reservation: str = ""
    """Whether admission keeps room for whole answers, so that nobody is preempted: ``in_order``, and who does not fit
    lets nobody pass; ``fitting``, and those behind who fit go before; empty, as vLLM does not."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    @property
    def room_tokens(self) -> int:
        """KV tokens that the pool holds; of groups of layers as vLLM counts them, in sequences of ``max_model_len``."""
        if not self.kv_groups:
            return self.num_blocks * self.block_size
        return int(self.num_blocks / self.blocks_of(self.max_model_len) * self.max_model_len)

    @property
    def batch_queue_size(self) -> int:
        """Steps that may be on their way at a time: vLLM's ``max_concurrent_batches``."""
        return self.pipeline_parallel + (1 if self.async_scheduling else 0)

    @property
    def spare_tokens(self) -> int:
        """Tokens that the pool must have beside those of any sequence: SGLang keeps a page free, in whole pages, and
        never admits what does not leave more than that."""
        return 0 if self.sglang is None else 2 * self.block_size + 1

    @property
    def growing_groups(self) -> int:
        """Groups that take a block for each ``block_size`` further tokens of a long sequence, and free none."""
        return sum(group.kind == "full" for group in self.kv_groups) if self.kv_groups else 1

    def fits(self, tokens: int) -> bool:
        """Whether an instance's blocks hold a sequence of so many tokens, and what is drafted behind them."""
        if self.speculation is not None:
            tokens = min(tokens + self.speculation.most_ahead(self.async_scheduling), self.max_model_len)
        return self.blocks_of(tokens + self.spare_tokens) <= self.num_blocks

    def blocks_of(self, tokens: int) -> int:
        """Blocks that a sequence of so many tokens holds at once at most."""
        whole = -(-tokens // self.block_size)
        if not self.kv_groups:
            return whole
        blocks = 0
        for group in self.kv_groups:
            most = self.most_blocks(group)
            blocks += min(whole, most) if most else whole
        return blocks

    def most_blocks(self, group: KvGroup) -> int:
        """Blocks of a group that a sequence holds at once at most, whatever its length; 0: there is no such limit.

        Of states there is the last one, and where they are cached the one before it.
        """
        if group.kind == "state":
            return 2 if self.enable_prefix_caching else 1
        if group.kind == "full":
            return 0
        in_flight_tokens, longest_tokens = self.max_in_flight_tokens, self.max_model_len
        return kept_blocks(group.tokens, group.kind == "chunk", in_flight_tokens, longest_tokens, self.block_size)

    def in_one_group(self, tokens: float) -> EngineSettings:
        """An engine whose layers are one group that has room for as many decoding sequences of ``tokens`` tokens. Half
        a chunk is held in the mean.
        """
        if not self.kv_groups:
            return self
        whole, blocks = tokens / self.block_size, 0.0
        for group in self.kv_groups:
            if group.kind == "full":
                blocks += whole
            elif group.kind == "state":
                blocks += 1.0
            else:
                kept_tokens = group.tokens / 2 if group.kind == "chunk" else group.tokens - 1
                blocks += min(whole, kept_tokens / self.block_size + 1)
        return replace(self, kv_groups=(), num_blocks=int(self.num_blocks * whole / blocks))

    @property
    def draft_slots(self) -> int:
        """Tokens of a step's budget that each scheduled sequence takes beside its own."""
        if self.speculation is None or self.rules.draft_slots != "request":
            return 0
        return self.speculation.draft_slots

    @property
    def max_scheduled_tokens(self) -> int:
        """Tokens of a step, its sequences' ``draft_slots`` among them: ``max_num_batched_tokens``, less what the seats
        take. May be below 1, with which vLLM does not start.
        """
        if self.speculation is None or self.rules.draft_slots != "seat":
            return self.max_num_batched_tokens
        return self.max_num_batched_tokens - self.speculation.draft_slots * self.max_num_seqs

    @property
    def max_in_flight_tokens(self) -> int:
        """Tokens that may be scheduled and not computed at a time: of one step, or of two that are scheduled ahead."""
        return self.max_num_batched_tokens * (2 if self.async_scheduling and self.rules.keeps_in_flight else 1)
