"""Public lines, as people have them: all are read, to the value."""

from __future__ import annotations

import pytest
from launch_recipes import SGLANG_ALWAYS, SGLANG_RECIPES, VLLM_RECIPES, Recipe

from kvsim.launch import read_launch_line


@pytest.mark.parametrize("recipe", VLLM_RECIPES, ids=lambda recipe: recipe.source)
def test_a_vllm_line_is_read(recipe: Recipe) -> None:
    line = read_launch_line(recipe.text)
    assert (line.engine, line.model, line.version) == ("vllm", recipe.model, recipe.version)
    assert line.arguments == recipe.arguments
    check_words(recipe, line.notes, line.warnings)


@pytest.mark.parametrize("recipe", SGLANG_RECIPES, ids=lambda recipe: recipe.source)
def test_an_sglang_line_is_read(recipe: Recipe) -> None:
    line = read_launch_line(recipe.text)
    assert (line.engine, line.model) == ("sglang", recipe.model)
    assert line.arguments == SGLANG_ALWAYS | recipe.arguments
    check_words(recipe, line.notes, line.warnings)


def check_words(recipe: Recipe, notes: tuple[str, ...], warnings: tuple[str, ...]) -> None:
    assert len(warnings) == len(recipe.warnings)
    assert all(about in warning for about, warning in zip(recipe.warnings, warnings, strict=True))
    assert set(recipe.notes) <= set(notes)


def test_there_are_thirty_and_each_has_its_source() -> None:
    assert len(VLLM_RECIPES) >= 30
    assert all(recipe.source.startswith("https://") for recipe in (*VLLM_RECIPES, *SGLANG_RECIPES))
