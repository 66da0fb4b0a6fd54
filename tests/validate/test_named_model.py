"""Which model is predicted where nobody says it: the one that the files name."""

from __future__ import annotations

from pathlib import Path

import pytest
from client_files import bench, written

from kvsim.errors import ConfigError
from kvsim.validate.clients.read import read_results
from kvsim.validate.named_model import named_model

LLAMA, SAME, QWEN = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B", "Qwen/Qwen3-32B"


def named(tmp_path: Path, *models: str | None) -> str | None:
    paths = [written(tmp_path / f"{place}.json", bench(model_id=model)) for place, model in enumerate(models)]
    return named_model([load for path in paths for load in read_results(path)]).model


@pytest.mark.parametrize("models", [(LLAMA,), (LLAMA, SAME), (LLAMA, None), ("tiny", LLAMA), (LLAMA, LLAMA)])
def test_the_first_that_is_known(tmp_path: Path, models: tuple[str | None, ...]) -> None:
    assert named(tmp_path, *models) == LLAMA


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ((None,), "^RESULTS name no model; --model MODEL says it"),
        (("tiny",), "^0.json names the model tiny, which is not known here; --model MODEL says it"),
        ((LLAMA, QWEN), f"^0.json names {LLAMA} and 1.json names {QWEN}; --model says which"),
    ],
)
def test_who_asks_has_to_say_it_otherwise(tmp_path: Path, models: tuple[str | None, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        named(tmp_path, *models)
