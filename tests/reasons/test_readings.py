"""No sentence without a reading: every text of the rules is said by a case, and read by one rule of the checker."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import REPOSITORY
from reason_checker import RULES, without_sample
from reason_comparisons import findings
from test_constructed import CASES

SAID_ELSEWHERE = (
    "Others' work in the same steps (batch interference), and loads of LoRA adapters before them, are 67% of mean TTFT "
    "(469 ms) and 67% of TTFT at p99.",
    "75% of prompt tokens (48) were hit though no completed request had them before: of unknown origin.",
    "75% of prompt tokens (48) were hit though no completed request had them before; attempts that came to nothing may "
    "have.",
    "Prefix caching is off: 50% of prompt tokens (64) begin as an earlier prompt or answer did (of the first 3 of 9 "
    "requests).",
)
"""What ``test_constructed.py`` and ``test_prefixes.py`` have tests of their own for."""
WITHOUT_TIERS_OR_ENGINES = {"accesses.py"}
"""Whose sentences ``test_accesses.py`` reads."""
SENTENCES = (*(sentence for _, sentence in CASES.values()), *SAID_ELSEWHERE)
assert findings is not None


@pytest.mark.parametrize("sentence", SENTENCES)
def test_one_rule_of_the_checker_reads_it(sentence: str) -> None:
    whole, _ = without_sample(sentence)
    assert sum(re.fullmatch(pattern, whole) is not None for pattern, _ in RULES) == 1


def test_every_reading_is_of_a_sentence() -> None:
    unread = [pattern for pattern, _ in RULES if not any(re.fullmatch(pattern, sentence) for sentence in SENTENCES)]
    assert unread == []


def test_every_text_of_the_rules_is_in_a_sentence() -> None:
    """Texts of three words on, split where figures stand: what none of the cases says is not known to be read."""
    everything = "\n".join(SENTENCES)
    unsaid = [text for path in _files() for text in _texts(path) if text not in everything]
    assert unsaid == []


def _files() -> list[Path]:
    files = sorted((REPOSITORY / "kvsim/reasons").glob("*.py"))
    assert len(files) > 10
    return [path for path in files if path.name not in WITHOUT_TIERS_OR_ENGINES]


def _texts(path: Path) -> Iterator[str]:
    """Literal parts of the strings that are put into sentences."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield from (part.strip() for part in re.split(r"\{\}", node.value) if len(part.split()) >= 3)
