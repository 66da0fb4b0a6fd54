"""How step times of every model are known on every GPU, looked at once each."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest

from kvsim.config import load_config
from kvsim.plan import levels, scaling_error
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.instance import spec_of
from kvsim.plan.measured_profiles import DIFFERENCES, measured_profiles
from kvsim.spec import find_model


def test_how_far_scaling_is_off_is_computed_once_for_all_instances() -> None:
    """It depends on the measured instances, not on the one that is asked about."""
    list(levels.known_levels(find_model("llama-3.1-8b")))
    with patch.object(scaling_error, "scaled_to", side_effect=AssertionError("computed again")):
        found = list(levels.known_levels(find_model("qwen3-32b"), ("b200", "l40s")))
    assert {one.level for one in found} == {"scaled", "unfit"}


@pytest.mark.parametrize("differs", [(name,) for name in DIFFERENCES])
def test_memory_and_names_of_an_instance_do_not_bear_on_it(differs: tuple[str, ...]) -> None:
    config = load_config(mode="instance").config
    spec = spec_of(config)
    efficiencies = efficiencies_of(config, spec)
    other = replace(spec, block_size_tokens=64, memory_utilisation=0.5, num_blocks_override=7, arguments=None)
    assert scaling_error.scaling_error(differs, spec, efficiencies) == scaling_error.scaling_error(
        differs, other, efficiencies
    )


def test_other_efficiencies_make_other_errors() -> None:
    config = load_config(mode="instance").config
    spec = spec_of(config)
    usual = efficiencies_of(config, spec)
    found = [scaling_error.roofline_error(spec, each) for each in (usual, replace(usual, weight_reading=0.5))]
    assert found[0] != found[1] and found[0] is not None and found[0].instances == len(measured_profiles())
