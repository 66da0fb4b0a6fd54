"""``models``: what is known by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.spec import GPUS, MODELS
from kvsim.spec.catalogue import entries


def test_all_are_shown_in_eighty_columns(kvsim) -> None:
    code, out, err = kvsim("models")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.split()[:1]][1 : len(MODELS) + 1] == list(MODELS)
    assert all(f"\n{name} " in out for name in GPUS)
    assert "\nllama-3.1-8b                     8.03e9        -   128 KiB       bf16    131,072\n" in out
    assert "\ngpt-oss-120b                    116.8e9    5.7e9    72 KiB bf16+mxfp4    131,072\n" in out
    assert "\nh100-sxm           79.2 GiB  3,350    989  1,979   450  132 9.0\n" in out


@pytest.mark.parametrize("name", [*MODELS, *GPUS])
def test_one_is_told_in_eighty_columns(kvsim, name: str) -> None:
    code, out, err = kvsim("models", name)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert out.split()[:2] == ["model" if name in MODELS else "GPU", name]
    if name in MODELS:
        assert all(hf_id in out for hf_id in entries()[name].ids)


def test_a_checkpoint_has_its_own_weights(kvsim) -> None:
    _, out, _ = kvsim("models", "nvidia/Llama-3.1-70B-Instruct-FP8")
    assert "\nweights        fp8, 72.7 GB\n" in out
    _, out, _ = kvsim("models", "deepseek-ai/DeepSeek-R1")
    assert out.startswith("model          deepseek-v3\n")
    assert "parameters     671e9, 37.53e9 of them a token's\n" in out
    assert "61, 128 heads, latent attention; 8 of 256 experts a token; 3\n" in out


def test_a_part_of_names_finds_all_that_have_it(kvsim) -> None:
    assert [line.split()[0] for line in kvsim("models", "gpt-oss").out.splitlines()[1:3]] == [
        "gpt-oss-20b",
        "gpt-oss-120b",
    ]
    assert [line.split()[0] for line in kvsim("models", "a100").out.splitlines()[1:5]] == [
        name for name in GPUS if name.startswith("a100")
    ]
    assert "codellama-7b" in kvsim("models", "CodeLlama").out
    assert kvsim("models", "NVIDIA H100 80GB HBM3").out.startswith("GPU                 h100-sxm\n")


def test_a_config_of_ones_own(kvsim, empty: Path) -> None:
    (empty / "mine").mkdir()
    (empty / "mine" / "config.json").write_text(json.dumps(entries()["qwen3-8b"].config | {"num_hidden_layers": 4}))
    code, out, err = kvsim("models", "mine", "--json", "mine.json")
    assert (code, err) == (0, "")
    assert "\nlayers         4, 32 heads, 8 KV heads of 128\n" in out and "source" not in out
    found = json.loads((empty / "mine.json").read_text())
    assert list(found["models"]) == ["mine"] and found["gpus"] == {}
    assert found["models"]["mine"]["kv_bytes_per_token_bf16"] == 4 * 2 * 8 * 128 * 2


def test_everything_as_json(kvsim, empty: Path) -> None:
    kvsim("models", "--json", "all.json")
    found = json.loads((empty / "all.json").read_text())
    assert (list(found["models"]), list(found["gpus"])) == (list(MODELS), list(GPUS))
    assert found["models"]["llama-3.1-8b"]["params"] == pytest.approx(8.03e9)
    assert found["gpus"]["l4"]["capability"] == [8, 9]
