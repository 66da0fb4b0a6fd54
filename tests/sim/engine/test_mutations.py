"""Break a rule of the scheduler or the pool, one at a time: the comparison with the reference must notice each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from places import REPOSITORY

EXAMPLES = """
from random import Random
import test_scheduler

for seed in range(400):
    test_scheduler.agrees(Random(seed))
test_scheduler.test_the_budget_of_a_victim_that_had_its_turn_goes_to_those_after_it()
"""


class Mutation(NamedTuple):
    module: str
    right: str
    wrong: str


MUTATIONS = {
    "blocks are released head first": Mutation(
        "sim/engine/paged.py", "for hold in reversed(holds):", "for hold in holds:"
    ),
    "blocks without a hash go to the queue's tail": Mutation(
        "sim/engine/paged.py",
        "self.num_free += loose\n            self.num_blank += loose",
        "self.num_free += loose\n            self._queue.add_strange(loose, is_blank=False)",
    ),
    "the last token may be hit": Mutation(
        "sim/engine/scheduler.py", "(sequence.num_tokens - 1) //", "sequence.num_tokens //"
    ),
    "the youngest copy serves": Mutation("sim/engine/paged.py", "copy = copies[0]", "copy = copies[-1]"),
    "blocks are hashed once computed": Mutation(
        "sim/engine/scheduler.py",
        "pool.extend(sequence, (cached + tokens) // block_size)",
        "pool.extend(sequence, cached // block_size)",
    ),
    "a step that preempts admits": Mutation("sim/engine/scheduler.py", " and not self.preempted:\n", ":\n"),
    "re-admissions count": Mutation(
        "sim/engine/scheduler.py",
        "if not sequence.resumed:\n            self.query",
        "if True:\n            self.query",
    ),
    "hits in the free queue cost nothing": Mutation(
        "sim/engine/scheduler.py", "room = pool.num_free - evictable", "room = pool.num_free"
    ),
    "the watermark always holds": Mutation(
        "sim/engine/scheduler.py", "if settings.watermark and self.running:", "if settings.watermark:"
    ),
    "the threshold holds for one alone": Mutation(
        "sim/engine/scheduler.py", "0 if is_spared else self.settings.long", "self.settings.long"
    ),
    "the first running request is preempted": Mutation(
        "sim/engine/preemption.py", "return next(reversed(self.running))", "return next(iter(self.running))"
    ),
    "a victim's budget is lost": Mutation("sim/engine/preemption.py", "budget += spent.get(victim, 0)", "pass"),
}


def outcome(folder: Path) -> subprocess.CompletedProcess[str]:
    """Of the fixed examples, with the sources in ``folder``."""
    paths = os.pathsep.join(map(str, (folder, REPOSITORY / "tests", REPOSITORY / "tests/sim/engine")))
    environment = {**os.environ, "PYTHONPATH": paths, "KVSIM_PURE": "1"}
    command = [sys.executable, "-c", EXAMPLES]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutants")
    leave = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(REPOSITORY / "kvsim", folder / "kvsim", ignore=leave)
    shutil.copy(REPOSITORY / "config.yaml", folder)
    shutil.copy(REPOSITORY / "models.json", folder)
    shutil.copytree(REPOSITORY / "profiles", folder / "profiles")
    return folder


def test_without_a_mutation_the_examples_agree(sources: Path) -> None:
    done = outcome(sources)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_broken_rule_is_noticed(sources: Path, name: str) -> None:
    module, right, wrong = MUTATIONS[name]
    path = sources / "kvsim" / module
    source = path.read_text()
    assert source.count(right) == 1, f"the rule has moved: {right}"
    path.write_text(source.replace(right, wrong))
    try:
        done = outcome(sources)
    finally:
        path.write_text(source)
    assert done.returncode, "nothing noticed"
    assert "kvsim" in done.stderr or "assert" in done.stderr, done.stderr
