"""docs/fleet.md names every kind of event and every key of one, and what its commands say is configuration."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise

import pytest
from places import REPOSITORY

from kvsim.config import load_config
from kvsim.config.fleet_keys import EVENT_KINDS, Clients, FleetEvent
from kvsim.record.fleet_figures import FleetFigures, IncidentFigures

PAGE = (REPOSITORY / "docs/fleet.md").read_text("utf-8")
COMMANDS = [
    shlex.split(text.replace("\\\n", " ")) for text in re.findall(r"^    (kvsim (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
]


def first_cells(title: str) -> list[str]:
    table = PAGE.partition(f"| {title} |")[2].partition("\n\n")[0]
    return [
        name for cell in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    ]


def test_every_kind_and_key_has_its_row() -> None:
    assert sorted(first_cells("kind")) == sorted(EVENT_KINDS)
    assert sorted(first_cells("key")) == sorted(FleetEvent.model_fields)


def test_keys_of_clients_and_figures_are_explained() -> None:
    for name in (
        *Clients.model_fields,
        *IncidentFigures.__annotations__.keys() - {"kind", "where", "begin_s", "end_s"},
    ):
        told = name in PAGE or name in ("instances", "requests_hit", "lost_prefill_tokens")
        assert told, name
    kept = FleetFigures.__annotations__.keys() - {"failed_in_window", "window_requests", "slo_share"}
    assert [name for name in kept if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_what_a_command_sets_is_configuration(command: list[str]) -> None:
    sets = [after for flag, after in pairwise(command) if flag == "--set"]
    config = load_config(sets=sets, mode="predict" if "predict" in command else "pd").config
    assert config.fleet.events or config.autoscale.is_on or command[1] == "trace"


def test_three_runs_are_shown() -> None:
    pictures = re.findall(r"\((\w+\.png)\)", PAGE)
    assert len(pictures) == 3 == sum(command[1] != "trace" for command in COMMANDS)
    assert all((REPOSITORY / f"docs/{name}").is_file() for name in pictures)
