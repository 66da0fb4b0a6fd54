"""``--speculative-config`` and its short forms, SGLang's flags, as keys of ``engine.speculative``."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.launch import read_launch_line
from kvsim.plan.vllm import engine_keys
from kvsim.spec import find_gpu, find_model


def keys_of(flags: str) -> dict[str, Any]:
    line = read_launch_line(f"vllm serve a/b {flags}")
    return speculative(dict(line.arguments))


def speculative(arguments: dict[str, Any]) -> dict[str, Any]:
    keys = engine_keys(Fields("", arguments), "", 8192, gpu=find_gpu("h100-sxm"), model=find_model("llama-3.1-8b"))
    own = {key.rpartition(".")[2]: value for key, value in keys.items() if ".speculative." in key}
    return own | ({"async": keys["engine.async_scheduling"]} if own else {})


@pytest.mark.parametrize(
    ("flags", "keys"),
    [
        ('-sc \'{"method": "ngram", "num_speculative_tokens": 5}\'', {"method": "ngram", "async": False}),
        ('-sc \'{"model": "[ngram]", "num_speculative_tokens": 5}\'', {"method": "ngram", "async": False}),
        ('-sc \'{"model": "x/EAGLE-Llama", "num_speculative_tokens": 5}\'', {"method": "eagle"}),
        ('-sc \'{"model": "x/EAGLE3-Llama", "num-speculative-tokens": 5}\'', {"method": "eagle3"}),
        ("--spec-method deepseek_mtp --spec-tokens 5", {"method": "mtp"}),
        ("-sc.method qwen3_5_mtp -sc.num_speculative_tokens 5", {"method": "mtp"}),
        ("--spec-model x/one --spec-tokens 5", {"method": "draft_model", "model": "x/one"}),
        (
            '-sc \'{"method": "eagle", "num_speculative_tokens": 5, "draft_tensor_parallel_size": 1}\'',
            {"method": "eagle", "draft_tensor_parallel_size": 1},
        ),
        (
            '-sc \'{"method": "eagle", "num_speculative_tokens": 5, "disable_padded_drafter_batch": true}\'',
            {"method": "eagle", "async": False},
        ),
        (
            '-sc \'{"method": "eagle", "num_speculative_tokens": 5, "rejection_sample_method": "synthetic", '
            '"synthetic_acceptance_length": 3.25}\'',
            {"method": "eagle", "acceptance": [1.0, 1.0, 0.25, 0.0, 0.0]},
        ),
    ],
)
def test_a_method_is_found_as_vllm_finds_it(flags: str, keys: dict[str, Any]) -> None:
    assert keys_of(flags) == {"num_speculative_tokens": 5, "async": True} | keys


def test_mtp_drafts_one_token_where_nobody_says_how_many() -> None:
    assert keys_of("--spec-method mtp") == {"method": "mtp", "num_speculative_tokens": 1, "async": True}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ('{"method": "medusa", "num_speculative_tokens": 5}', r"\(--speculative-config medusa\)"),
        ('{"model": "x/y-DFlash", "num_speculative_tokens": 5}', r"\(--speculative-config dflash\)"),
        (
            '{"method": "eagle3", "num_speculative_tokens": 5, "parallel_drafting": true}',
            "drafts that come all at once",
        ),
    ],
)
def test_what_is_not_simulated_is_said_and_left_out(words: str, what: str) -> None:
    line = read_launch_line(f"vllm serve a/b -sc '{words}'")
    (warning,) = line.warnings
    assert re.search(what, warning)
    assert speculative(dict(line.arguments)) == {}


def test_what_changes_nothing_here_is_named() -> None:
    line = read_launch_line(
        'vllm serve a/b -sc \'{"method": "eagle", "num_speculative_tokens": 2, "quantization": "fp8"}\''
    )
    assert line.warnings == ("not modelled: quantization of --speculative-config",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("3", r"^speculative_config = 3: must be a JSON object"),
        ('{"method": "eagle"}', "num_speculative_tokens = None: must be given"),
        ('{"method": "eagle", "num_speculative_tokens": "five"}', "'five': must be a whole number from 1 to 64"),
        ('{"method": "eagle", "num_speculative_tokens": 0}', "must be a whole number from 1 to 64"),
        ('{"method": "draft_model", "num_speculative_tokens": 2}', "model = None: must name the draft model"),
        ('{"method": "eagle", "num_speculative_token": 2}', "no such key; did you mean 'num_speculative_tokens'"),
        (
            '{"method": "eagle", "num_speculative_tokens": 2, "rejection_sample_method": "synthetic"}',
            "needs either synthetic_acceptance_rates or synthetic_acceptance_length",
        ),
        (
            '{"method": "eagle", "num_speculative_tokens": 2, "rejection_sample_method": "synthetic", '
            '"synthetic_acceptance_rates": [0.5]}',
            "must be 2 numbers from 0 to 1",
        ),
    ],
)
def test_a_wrong_value_is_one_line(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        keys_of(f"-sc '{words}'")


def test_sglang_s_chain_is_read_and_its_trees_are_not_simulated() -> None:
    chain = read_launch_line(
        "sglang serve --model-path a/b --enable-mixed-chunk --speculative-algorithm EAGLE3 --speculative-num-steps 3 "
        "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4"
    )
    assert chain.warnings == ()
    assert chain.arguments["speculative_config"] == {"method": "eagle3", "num_speculative_tokens": 3}
    for flags in ("", "--speculative-num-steps 3 --speculative-eagle-topk 4 --speculative-num-draft-tokens 16"):
        tree = read_launch_line(
            f"sglang serve --model-path a/b --enable-mixed-chunk --speculative-algorithm EAGLE {flags}"
        )
        assert "speculative_config" not in tree.arguments
        assert "not modelled: speculative decoding (--speculative-algorithm EAGLE" in tree.warnings[0]
