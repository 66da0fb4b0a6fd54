"""Rules that vLLM's scheduler had in older versions, against the beginnings of recordings of those versions."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from places import REPOSITORY

from kvsim.plan.engine_settings import SchedulerRules
from kvsim.validate.recording import Recording, read_recording
from kvsim.validate.replay import first_difference

FILES = sorted((REPOSITORY / "tests/vllm/version_recordings").glob("*.json.gz"))
"""Cut from what ``tests/vllm/record.py`` and ``record_hybrid.py`` made with those versions. Each is named after a rule
and ends soon after the first step that the rule decides."""
NOW = {"draft_slots": "request", "padding": "fitting"}


def rule_of(file: Path) -> str:
    return file.name.split("-0.")[0].replace("-", "_")


def with_rule(recording: Recording, rule: str) -> Recording:
    """The same, to be replayed with one rule as it was not."""
    rules = recording.settings.rules
    changed = replace(rules, **{rule: NOW.get(rule, not getattr(rules, rule))})
    return recording.model_copy(update={"settings": replace(recording.settings, rules=changed)})


def test_every_rule_has_a_recording() -> None:
    assert {rule_of(file) for file in FILES} == {field.name for field in fields(SchedulerRules)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".json.gz"))
def test_an_older_version_is_reproduced_by_its_own_rules_alone(file: Path) -> None:
    recording, rule = read_recording(file), rule_of(file)
    assert first_difference(recording) is None
    found = first_difference(with_rule(recording, rule))
    assert found is not None, "the rule decides nothing"
    assert found.step >= len(recording.steps) - 4
