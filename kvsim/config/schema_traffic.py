"""Synthetic traffic of the modes, how much of it an experiment takes, and the single node's policies."""

from __future__ import annotations

from typing import Literal

from kvsim.config.section import Count, Name, NonNegative, Positive, Ratios, Section, Whole


class ChatTrace(Section):
    """``trace``, ``cluster_trace``: multi-turn chat over shared prompts and documents."""

    num_sessions: Count
    turns_per_session: Count
    prompt_tokens_min: Count
    prompt_tokens_max: Count
    initial_context_tokens: Whole
    num_system_prompts: Count
    num_shared_docs: Whole
    num_rag_chunks: Whole
    doc_zipf_alpha: NonNegative
    output_tokens_mean: Positive
    think_time_s: NonNegative
    qps: Positive | None
    seed: Whole | None


class PdTrace(Section):
    """``pd_trace``: the default traffic of prefill/decode runs."""

    kind: Literal["chat", "rag"]
    arrivals: Literal["poisson", "constant", "gamma", "on_off"]
    num_requests: Count | None
    num_sessions: Count | None
    turns_per_session: Count
    num_system_prompts: Count
    system_prompt_tokens: Whole
    prompt_tokens_min: Count | None
    prompt_tokens_max: Count | None
    new_tokens_mean: Positive
    new_tokens_cv: NonNegative
    initial_context_tokens: Whole | None
    history_tokens_mean: NonNegative
    output_tokens_mean: Positive
    output_tokens_cv: NonNegative
    think_time_s: NonNegative
    num_shared_docs: Whole
    num_rag_chunks: Whole
    doc_zipf_alpha: NonNegative
    qps: Positive | None
    seed: Whole | None


class AgentTrace(Section):
    """``agent_trace``: long sessions of tool calls, whose results grow the context."""

    num_sessions: Count
    turns_min: Count
    turns_max: Count
    tool_def_tokens: Whole
    tool_result_min_tokens: Count
    tool_result_max_tokens: Count
    reasoning_tokens: Whole
    num_tool_sets: Count
    num_system_prompts: Count
    qps: Positive
    seed: Whole | None


class Experiment(Section):
    """``experiments``, ``cluster_experiments``: how many requests a run takes, and where its files go."""

    num_requests: Count | None
    warmup_requests: Whole | None
    output_dir: Name


class PdExperiment(Experiment):
    """``pd_experiments``: also the prefill:decode ratios that a ratio study tries."""

    pd_ratios: Ratios


class Policies(Section):
    """``policies``: names are checked against the registry where the system is built."""

    eviction: Name
    prefetch: Name
    admission: Name
    selective_write: bool
    selective_write_depth_threshold: Whole
    ttl_s: Positive
    learned_model: Name | None
