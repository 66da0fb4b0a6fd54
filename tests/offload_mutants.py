"""vLLM's rules of offloading, broken one at a time: which of them recordings notice. To be run on the sources.

KVSIM_PURE=1 python tests/offload_mutants.py FILE...
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import offload_replay

MUTATIONS = {
    "of a prompt that is all in memory its last block is computed": (
        "tiers.offloading",
        "chunk_runs(path, sequence.num_tokens //",
        "chunk_runs(path, (sequence.num_tokens - 1) //",
    ),
    "nobody waits for what is being written": (
        "tiers.offloading",
        "if connector.is_coming(runs, known_tokens // chunk_tokens):",
        "if False:",
    ),
    "nobody waits for what is loaded for another": (
        "tiers.offloading",
        "        if self._loading:",
        "        if False:",
    ),
    "nobody passes who waits": (
        "engine.scheduler",
        "            elif tokens == PASSED_OVER:\n                self._pass_over()",
        "            elif tokens == PASSED_OVER:\n                break",
    ),
    "who has been loaded stands where it would be had it waited": (
        "engine.scheduler",
        "insert_loaded(self.waiting, sequence, len(self.loaded), None if self.has_priorities else self.loads)",
        "insert_as_waited(self.waiting, sequence, self.has_priorities)",
    ),
    "a load takes what prompts under way need": ("engine.scheduler", "room - self._blocks_to_come()", "room"),
    "a load needs no room for the rest of its sequence": (
        "engine.scheduler",
        "        if settings.scheduler_reserve_full_isl and -(-sequence.num_tokens // block_size) - hits > room:\n"
        "            return 0\n        blocks =",
        "        blocks =",
    ),
    "a preempted request is not looked up again": (
        "engine.scheduler",
        "if connector is not None and not held:",
        "if connector is not None and not held and not sequence.resumed:",
    ),
    "a preempted request does not find what only it has": (
        "tiers.offloading",
        "is_own=sequence.resumed",
        "is_own=False",
    ),
    "a preempted request stands before who has been loaded": (
        "engine.scheduler",
        "insert_behind(self.waiting, victim, len(self.loaded))",
        "self.waiting.appendleft(victim)",
    ),
    "a refused write is not tried again": (
        "tiers.offloading",
        "        if self._refused:\n            for",
        "        if False:\n            for",
    ),
    "a refused write is not tried again when its request has ended": (
        "tiers.offloading",
        "            self._offer(lookup, path, tokens, jobs)\n            if",
        "            if",
    ),
    "use counts before the writes of the step in which a request ends": (
        "tiers.offloading",
        "        self._ended.append(",
        "        self._connector.ended(lookup.access)\n        self._ended.append(",
    ),
    "the last token of what a step computes is offered with the next one": (
        "tiers.offloading",
        "            if self._offer(lookup, sequence.path, tokens, jobs):",
        "            if self._offer(lookup, sequence.path, tokens - 1, jobs):",
    ),
    "no step waits for copies of who has ended": (
        "tiers.offloading",
        "(self._flushed if job.is_overwritten(given) else kept)",
        "kept",
    ),
    "no step waits for copies of whom it preempts": (
        "tiers.offloading",
        "for victim in scheduler.preempted:",
        "for victim in ():",
    ),
    "no step waits for copies of blocks that are hit": (
        "engine.paged",
        "            self.given += self.blocks_of(table)",
        "            pass",
    ),
    "no step waits for copies of blocks that who has been loaded holds": (
        "tiers.offloading",
        "            self._requests.note_given(sequence)",
        "            pass",
    ),
    "steps wait for copies of other blocks with the same content": (
        "engine.chain",
        "return self.copy is later.copy or (self.copy is None and later.is_original)",
        "return True",
    ),
    "many steps are one event while who waits may be answered otherwise": (
        "engine.scheduler",
        "        if self.connector is not None and self._may_load_head:\n            return True\n",
        "",
    ),
    "many steps are one event while a refused write may find room": (
        "tiers.offloading",
        "return bool(self._refused) and self._connector.is_moving()",
        "return False",
    ),
    "many steps are one event while copies may have to be waited for": (
        "tiers.offloading",
        "            return True\n        return bool(self._refused)",
        "            pass\n        return bool(self._refused)",
    ),
    "scheduling ahead, who has a step under way is preempted": (
        "engine.preemption",
        "if self.connector is None or not self.is_ahead:",
        "if True:",
    ),
    "scheduling ahead, who lost the step under way is not preempted": (
        "engine.preemption",
        "return not victim.skipped_last_step",
        "return True",
    ),
    "loads into blocks that are being copied do not wait": (
        "tiers.offloading",
        "            if start_s > self._clock.now:\n                self._clock.schedule",
        "            if False:\n                self._clock.schedule",
    ),
}
"""By what is wrong then: a module of ``kvsim.sim``, what is right in it, and what is wrong."""


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Let the methods of a module be those of its source with one rule broken."""
    where, right, wrong = MUTATIONS[name]
    module = importlib.import_module(f"kvsim.sim.{where}")
    source = Path(str(module.__file__)).read_text("utf-8")
    assert source.count(right) == 1, f"the rule has moved: {right}"
    mutant: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source.replace(right, wrong), "mutant", "exec", dont_inherit=True), mutant)
    before: list[tuple[type, str, object]] = []
    for kind in [kind for kind in vars(module).values() if isinstance(kind, type)]:
        if kind.__module__ != module.__name__:
            continue
        for name, member in list(vars(kind).items()):
            wrong_member = vars(mutant[kind.__name__]).get(name)
            if isinstance(member, FunctionType) and isinstance(wrong_member, FunctionType):
                before.append((kind, name, member))
                setattr(kind, name, _with_code_of(member, wrong_member))
            elif isinstance(member, property) and isinstance(wrong_member, property):
                before.append((kind, name, member))
                setattr(kind, name, property(_with_code_of(member.fget, wrong_member.fget)))
    try:
        yield
    finally:
        for kind, name, member in before:
            setattr(kind, name, member)


def _with_code_of(right: Any, wrong: Any) -> FunctionType:
    """A method as it is, but for what it does."""
    made = FunctionType(wrong.__code__, right.__globals__, right.__name__, right.__defaults__, right.__closure__)
    made.__kwdefaults__ = right.__kwdefaults__
    return made


def notices(path: Path) -> bool:
    """Whether what kvsim does now differs from a recording, or breaks down."""
    try:
        return not offload_replay.compare(path).is_identical
    except (AssertionError, IndexError, KeyError, ValueError):
        return True


def main(paths: list[Path]) -> int:
    missed = 0
    for path in paths:
        assert not notices(path), f"{path.name} differs without a mutation"
    for name in MUTATIONS:
        with broken(name):
            found = next((path.name for path in paths if notices(path)), None)
        print(f"{name}: {'not noticed' if found is None else found}")
        missed += found is None
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
