"""How often drafts are accepted: figures that others have published, where the configuration gives none.

A position's share is of the steps with drafts, as vLLM counts it (``spec_decode_num_accepted_tokens_per_pos`` over
``spec_decode_num_drafts``): it is accepted, and so are all drafts before it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedAcceptance:
    """What was measured, on what, and where it stands."""

    by_position: tuple[float, ...]
    measured_on: str
    source: str
    proposed_share: float = 1.0
    """Share of the steps of a sequence after which there are drafts."""

    def of(self, num_tokens: int) -> tuple[float, ...]:
        """For so many drafts; behind those that were measured the shares go on falling as from the last but one."""
        found = list(self.by_position[:num_tokens])
        falling = found[-1] / found[-2] if len(found) > 1 else found[0]
        while len(found) < num_tokens:
            found.append(found[-1] * falling)
        return tuple(found)


def _each(rate: float, positions: int) -> tuple[float, ...]:
    """Where each draft has the same chance once those before it are accepted."""
    return tuple(rate ** (place + 1) for place in range(positions))


_QWEN3 = "Qwen3-8B and a Llama-shaped EAGLE-3 head, temperature 0.6"
_QWEN3_SOURCE = "github.com/vllm-project/speculators issue 563"
_LEVIATHAN = "Leviathan et al. 2023, arXiv 2211.17192, table 3"
PUBLISHED: dict[str, PublishedAcceptance] = {
    "eagle3/mt-bench": PublishedAcceptance(
        (0.74, 0.54, 0.41, 0.30, 0.22, 0.16, 0.12, 0.08, 0.05, 0.02),
        "Llama-3.1-8B-Instruct, MT-Bench, greedy",
        "github.com/vllm-project/vllm pull 26498",
    ),
    "eagle3/spec-bench": PublishedAcceptance(
        (0.71, 0.50, 0.36, 0.26, 0.18, 0.13, 0.10, 0.07, 0.04, 0.02),
        "Llama-3.1-8B-Instruct, Spec-Bench, greedy",
        "github.com/vllm-project/vllm pull 26498",
    ),
    "eagle3/coding": PublishedAcceptance(
        (0.79, 0.56, 0.36, 0.17, 0.12, 0.06, 0.04), f"{_QWEN3}: coding", _QWEN3_SOURCE
    ),
    "eagle3/math": PublishedAcceptance((0.81, 0.61, 0.45, 0.25, 0.18, 0.12, 0.03), f"{_QWEN3}: math", _QWEN3_SOURCE),
    "eagle3/summarization": PublishedAcceptance(
        (0.67, 0.38, 0.20, 0.08, 0.04, 0.01, 0.01), f"{_QWEN3}: summaries", _QWEN3_SOURCE
    ),
    "eagle/mt-bench": PublishedAcceptance(
        _each(0.568, 2),
        "Llama-3-8B-Instruct, MT-Bench, greedy, from 1.89 tokens a step with two drafts",
        "github.com/vllm-project/vllm pull 16035",
    ),
    "mtp/deepseek-r1": PublishedAcceptance(
        (0.82,), "DeepSeek-R1, one draft", "github.com/vllm-project/vllm pull 12755: 81 to 82.3%"
    ),
    "mtp/deepseek-v3": PublishedAcceptance(
        _each(0.707, 7),
        "DeepSeek-V3-0324, MT-Bench, HumanEval and GSM8K, greedy, from 3.20 tokens a step with seven drafts",
        "huggingface.co/nebius/MTP-DeepSeek-V3-0324",
    ),
    "draft_model/cnn-dailymail": PublishedAcceptance(
        _each(0.65, 5), "T5-XXL and T5-small, summaries of CNN/DailyMail, greedy", _LEVIATHAN
    ),
    "draft_model/wmt-en-de": PublishedAcceptance(
        _each(0.75, 7), "T5-XXL and T5-small, translations English to German, greedy", _LEVIATHAN
    ),
    "ngram/code-edits": PublishedAcceptance(
        (0.81, 0.74, 0.70, 0.68, 0.66),
        "edits of code of 5,000 characters, up to five tokens matched",
        "github.com/vllm-project/vllm pull 24344",
        proposed_share=0.55,
    ),
}
"""By method and workload; the first of a method is taken where nothing is given, of ``mtp`` the first with as many
positions."""


def published_for(method: str, num_tokens: int) -> str:
    """The name of the figures that stand for a method where nobody says which."""
    names = [name for name in PUBLISHED if name.startswith(f"{method}/")]
    enough = [name for name in names if len(PUBLISHED[name].by_position) >= num_tokens]
    return enough[0] if enough else names[-1] if method == "mtp" else names[0]
