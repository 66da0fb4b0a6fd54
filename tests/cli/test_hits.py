"""``hits``: ratios by policy and capacity, and everything that can be wrong with the question."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kvsim.content import content_path
from kvsim.learned.card import card_head
from kvsim.policy.eviction import EVICTIONS
from kvsim.workload.accesses import read_accesses

ROW = '{{"timestamp": {time_ms}, "input_length": {tokens}, "output_length": 7, "hash_ids": {ids}}}\n'
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
PROMPTS = ([1, 2], [1, 3], [2], [1, 2, 4], [5], [1, 2])
OWN = "from kvsim.policy.eviction.fifo import Fifo\n\nclass Own(Fifo):\n    name = 'own'\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Six prompts of eleven blocks, five of them different, a second apart."""
    path = tmp_path / "six.jsonl"
    rows = (ROW.format(time_ms=1000 * i, tokens=500 * len(ids), ids=ids) for i, ids in enumerate(PROMPTS))
    path.write_text("".join(rows))
    return path


def test_ratios(kvsim, trace: Path, empty: Path) -> None:
    asked = ("--eviction", "lru,belady", "--capacity-blocks", "2,5", "--json", "h.json", "--as", "accesses")
    code, out, err = kvsim("hits", trace, *asked)
    assert (code, err) == (0, "")
    assert json.loads((empty / "h.json").read_text()) == {
        "lru": {"2": 2 / 11, "5": 6 / 11},
        "belady": {"2": 4 / 11, "5": 6 / 11},
    }
    head, meaning, columns, *rows = out.splitlines()
    assert head == "11 accesses to 5 blocks of 6 prompts; a cache that forgets nothing hits 0.5455"
    assert meaning == "accesses: share of hash ids found, asked for one by one in the order of the file"
    assert columns.split() == ["blocks", "2", "5", "accesses/CPU-s"]
    assert [row.split()[:3] for row in rows] == [["lru", "0.1818", "0.5455"], ["belady", "0.3636", "0.5455"]]


def test_all_policies_and_capacities_by_default(kvsim, empty: Path) -> None:
    code, _, err = kvsim("hits", content_path("trace", "mooncake_sample.jsonl"), "--json", "h.json")
    report = json.loads((empty / "h.json").read_text())
    assert (code, err, list(report)) == (0, "", list(EVICTIONS))
    for ratios in report.values():
        assert len(ratios) > 3
    for stack in ("lru", "belady"):
        assert list(report[stack].values()) == sorted(report[stack].values()) and report[stack].popitem()[1] > 0


def test_admission_and_settings(kvsim, trace: Path, empty: Path) -> None:
    found = {}
    for words in ("all", "second_hit", "ttl", "ttl --set policies.ttl_s=1", "selective_write"):
        arguments = ["hits", trace, "--eviction=lru", "--capacity-blocks=5", "--json=h.json", "--admission"]
        assert kvsim(*arguments, *words.split())[0] == 0
        found[words] = json.loads((empty / "h.json").read_text())["lru"]["5"] * 11
    assert found == pytest.approx(
        {"all": 6, "second_hit": 4, "ttl": 6, "ttl --set policies.ttl_s=1": 2, "selective_write": 6}
    )


def test_the_model_that_is_set(kvsim, empty: Path) -> None:
    """One that takes the most used blocks for the least needed."""
    shipped = content_path("learned", "mooncake_conversation.txt").read_text()
    flipped = re.sub("^leaf_value=.*$", _flipped, shipped, flags=re.MULTILINE)
    trees = re.findall(r"^Tree=.*?(?=^Tree=|^end of trees)", flipped, flags=re.MULTILINE | re.DOTALL)
    sizes = " ".join(str(len(tree)) for tree in trees)
    own = re.sub("^tree_sizes=.*$", f"tree_sizes={sizes}", flipped, flags=re.MULTILINE)
    (empty / "own.txt").write_text(own)
    (empty / "own.md").write_text(card_head(empty / "own.txt", own))
    found = []
    for words in ((), ("--set", "policies.learned_model=own.txt")):
        sample = content_path("trace", "mooncake_sample.jsonl")
        assert kvsim("hits", sample, "--eviction=learned", "--capacity-blocks=30", "--json=h.json", *words)[0] == 0
        found.append(json.loads((empty / "h.json").read_text())["learned"]["30"])
    assert found[0] != found[1]


def _flipped(line: re.Match[str]) -> str:
    name, _, values = line[0].partition("=")
    return f"{name}={' '.join(str(-float(value)) for value in values.split())}"


def test_a_policy_of_the_users_own(kvsim, trace: Path, empty: Path) -> None:
    (empty / "own_hits_rules.py").write_text(OWN)
    code, out, _ = kvsim("hits", trace, "--eviction", "own_hits_rules:Own,fifo", "--capacity-blocks", "3")
    rows = [row.split()[:3] for row in out.splitlines()[4:]]
    ratios = {form: ratio for _, form, ratio in rows[2:]}
    assert code == 0 and rows[:2] == [["own_hits_rules:Own", form, ratio] for form, ratio in ratios.items()]


def test_the_seed_draws(kvsim, empty: Path) -> None:
    sample = content_path("trace", "mooncake_sample.jsonl")
    ratios = []
    for seed in ("1", "1", "2", "3", "4"):
        kvsim("hits", sample, "--eviction=random", "--capacity-blocks=20", "--seed", seed, "--json=h.json")
        ratios.append(json.loads((empty / "h.json").read_text())["random"]["20"])
    assert ratios[0] == ratios[1] and len(set(ratios)) > 1


def test_sessions_and_turns() -> None:
    accesses = read_accesses(content_path("trace", "bailian_sample.jsonl"))
    turns: dict[int, int] = {}
    for session, turn in zip(accesses.session_id, accesses.turn, strict=True):
        assert turn == turns.get(session, 0)
        turns[session] = turn + 1
    assert max(turns.values()) > 1
    prompts = list(accesses.prompts())
    assert prompts[0][0] == 0 and prompts[-1][1] == len(accesses.keys) and len(prompts) == len(accesses.turn)


def test_rows_count_as_they_stand(tmp_path: Path) -> None:
    """Also ids beyond the prompt, rows that failed, and rows out of time order."""
    path = tmp_path / "odd.jsonl"
    path.write_text(
        ROW.format(time_ms=5000, tokens=500, ids=[7, 8])
        + ROW.format(time_ms=0, tokens=0, ids=[7])
        + ROW.format(time_ms=1000, tokens=500, ids=[9])
    )
    accesses = read_accesses(path)
    assert (accesses.keys, accesses.offsets) == ([0, 1, 0, 2], [0, 2, 3, 4])
    assert (accesses.time_s, accesses.session_id, accesses.turn) == ([5.0, 0.0, 1.0], [-1] * 3, [0] * 3)


@pytest.mark.parametrize(
    ("words", "complaint"),
    {
        "": "missing argument 'FILE'",
        "nosuch.jsonl": "no such file",
        "TRACE --capacity-blocks 0": "'--capacity-blocks': '0'; allowed: a whole number >= 1",
        "TRACE --capacity-blocks 5,-1": "'-1'; allowed: a whole number >= 1",
        "TRACE --capacity-blocks 5,": "''; allowed: a whole number >= 1",
        "TRACE --capacity-blocks 1.5": "'1.5'; allowed: a whole number >= 1",
        "TRACE --eviction lru,acr": "unknown policy 'acr'; did you mean 'arc'?",
        "TRACE --eviction ,": "unknown policy ''; known: arc,",
        "TRACE --eviction nosuchmodule:Mine": "no module 'nosuchmodule'",
        "TRACE --admission tll": "admission: unknown policy 'tll'; did you mean 'ttl'?",
        "TRACE --admission ttl --set policies.ttl_s=0": "ttl_s",
        "TRACE --set policies.tll_s=1": "did you mean 'ttl_s'?",
        "TRACE --set cache.chunk_tokens=512": "hits does not use 'cache.chunk_tokens'; it uses policies.learned_model,",
        'TRACE --set policies={"eviction":lru}': "hits does not use 'policies.eviction'",
        "TRACE --eviction learned --set policies.learned_model=no.txt": "learned model no.txt: No such file",
        "TRACE --set policies.learned_model=TRACE.txt": "learned model TRACE.txt: No such file or directory",
        "TRACE --seed -1": "'--seed': '-1'",
        "TRACE --workload-format mooncak": "did you mean 'mooncake'?",
        "TRACE --json nowhere/h.json": "there is no folder 'nowhere'",
        "TRACE --json TRACE": "which is the trace",
        "TRACE --evictoin lru": "did you mean '--eviction'?",
        "AZURE": "no hash ids in any row (azure)",
        "AZURE --json h.json": "no hash ids in any row",
        "BROKEN --json h.json": ":2: not JSON",
    }.items(),
)
def test_one_line_and_nothing_left(kvsim, trace: Path, empty: Path, words: str, complaint: str) -> None:
    azure, broken = trace.with_name("azure.csv"), trace.with_name("broken.jsonl")
    azure.write_text(AZURE)
    broken.write_text(trace.read_text().splitlines(keepends=True)[0] + "{broken\n")
    files = {"TRACE": trace, "AZURE": azure, "BROKEN": broken}
    code, out, err = kvsim("hits", *(files.get(word, word) for word in words.split()))
    assert (code, out) == (2, "")
    assert err.startswith("kvsim: error: ") and err.count("\n") == 1 and complaint in err, err
    assert list(empty.iterdir()) == []


HEADS = ([0, 1, 2, 3], [8, 9], [0, 1, 2, 3])
BEHIND = ([1], [7], [1, 2], [8], [1, 2])


def written(folder: Path, prompts: tuple[list[int], ...]) -> Path:
    path = folder / "t.jsonl"
    rows = (ROW.format(time_ms=1000 * i, tokens=512 * len(ids), ids=ids) for i, ids in enumerate(prompts))
    path.write_text("".join(rows))
    return path


@pytest.mark.parametrize(
    ("prompts", "eviction", "blocks", "accesses", "engine"),
    [(HEADS, "lru", 5, 0, 3), (BEHIND, "fifo", 3, 2, 1), (BEHIND, "lru", 3, 3, 3)],
    ids=["which end goes first", "behind a missing head", "nothing behind one"],
)
def test_what_an_engine_could_use(kvsim, empty: Path, prompts, eviction, blocks, accesses, engine) -> None:
    """Both are printed, each by its name; the JSON has accesses unless asked otherwise."""
    path, total = written(empty, prompts), sum(map(len, prompts))
    asked = ("hits", path, "--eviction", eviction, "--capacity-blocks", str(blocks), "--json", "h.json")
    out = kvsim(*asked).out
    wanted = {"accesses": accesses / total, "engine": engine / total}
    for form, ratio in wanted.items():
        assert f"\n{eviction} {form}" in out and f"\n{form}: " in out
        assert re.search(rf"^{eviction} {form} +{ratio:.4f}", out, flags=re.MULTILINE)
    assert json.loads((empty / "h.json").read_text())[eviction] == {str(blocks): wanted["accesses"]}
    for form, ratio in wanted.items():
        assert kvsim(*asked, "--as", form).code == 0
        assert json.loads((empty / "h.json").read_text())[eviction] == {str(blocks): ratio}


def test_the_flags_of_reading_reach_the_accesses(kvsim, trace: Path, empty: Path) -> None:
    asked = ("hits", trace, "--eviction=lru", "--capacity-blocks=5", "--as=accesses")
    assert kvsim(*asked, "--workload-limit", "2").out.startswith("4 accesses to 3 blocks of 2 prompts")
    ttl = ("--admission", "ttl", "--set", "policies.ttl_s=1.5")
    finer = "--workload-time-unit=us"
    flags = ((), (finer,), (finer, "--workload-arrival-scale=1000"))
    found = [kvsim(*asked, *ttl, *words).out.splitlines()[-1].split()[1] for words in flags]
    assert float(found[0]) < float(found[1]), "in a thousandth of the time nothing grows old"
    assert found[2] == found[0]
