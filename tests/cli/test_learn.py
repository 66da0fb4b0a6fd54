"""``learn train``, ``evaluate`` and ``explain``, on synthetic chats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kvsim.cli import main

    path = tmp_path_factory.mktemp("traces") / "chats.jsonl"
    assert main(["trace", "synth", "chat", "-o", str(path), "--requests", "900", "--rate", "2"]) == 0
    return path


@pytest.fixture(scope="module")
def model(trace: Path) -> Path:
    from kvsim.cli import main

    path = trace.with_name("chats.txt")
    assert main(["learn", "train", str(trace), "-o", str(path), "--capacity-blocks", "300", "--also", str(trace)]) == 0
    return path


def test_train_writes_a_model_and_its_card(model: Path, trace: Path) -> None:
    assert model.read_text().startswith("tree\n")
    card = model.with_suffix(".md").read_text()
    for part in ("# chats\n", "## Data", "## Training", "## Scores", "## Limits", "## Features", "| 300 |", "sha256"):
        assert part in card, part
    recipe = "python main.py learn train chats.jsonl -o chats.txt --mode split --fractions 0.5,0.2 --seed 0"
    assert recipe in card
    assert "prompts 630 to 899 had no part in the training" in card
    assert str(trace.parent) not in card


def test_the_same_command_gives_the_same_files(kvsim, model: Path, trace: Path, empty: Path) -> None:
    code, out, err = kvsim("learn", "train", trace, "-o", "chats.txt", "--capacity-blocks", "300", "--also", trace)
    assert (code, err) == (0, "")
    assert out.endswith("wrote chats.txt and chats.md\n")
    assert (empty / "chats.txt").read_bytes() == model.read_bytes()
    assert (empty / "chats.md").read_text() == model.with_suffix(".md").read_text()


def test_evaluate(kvsim, model: Path, trace: Path, empty: Path) -> None:
    arguments = ("learn", "evaluate", trace, "--model", model, "--capacity-blocks", "200,400", "--json", "out.json")
    code, out, err = kvsim(*arguments)
    assert (code, err) == (0, "")
    report = json.loads((empty / "out.json").read_text())
    assert [row["capacity_blocks"] for row in report["scores"]] == [200, 400]
    for row in report["scores"]:
        assert 0 <= row["lru_hit_ratio"] <= row["classic_hit_ratio"] <= row["belady_hit_ratio"] <= 1
        assert row["learned_hit_ratio"] <= row["belady_hit_ratio"]
    assert report["first_prompt"] == 630
    assert out.splitlines()[1].split() == ["blocks", "lru", "classic", "learned", "belady", "gap", "closed"]
    cold = kvsim("learn", "evaluate", trace, "--model", model, "--capacity-blocks", "200", "--cold")
    assert "caches empty at first" in cold.out
    shipped = kvsim("learn", "evaluate", trace, "--capacity-blocks", "200", "--fraction", "0")
    assert shipped.code == 0 and "from prompt 0 on" in shipped.out


def test_explain(kvsim, model: Path) -> None:
    code, out, err = kvsim("learn", "explain", "--model", model)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[2:]]
    gains = [float(row[1].replace(",", "")) for row in rows]
    assert gains == sorted(gains, reverse=True) and gains[0] > 0
    assert {"depth", "idle_s", "turn", "age_step_v1"} <= {row[0] for row in rows}
    assert kvsim("learn", "explain").code == 0


def test_warmup_is_scored_over_the_whole_run(kvsim, trace: Path, empty: Path) -> None:
    arguments = ("-o", "w.txt", "--mode", "warmup", "--fraction", "0.4", "--capacity-blocks", "300")
    code, out, err = kvsim("learn", "train", trace, *arguments)
    assert (code, err) == (0, "")
    assert "from prompt 0 on; caches empty at first" in out
    assert "the warm-up under LRU included" in (empty / "w.md").read_text()


def test_only_cards_are_written_over(kvsim, model: Path, trace: Path, empty: Path) -> None:
    arguments = ("learn", "train", trace, "-o", "notes.txt", "--capacity-blocks", "300")
    (empty / "notes.md").write_text("# notes\n\nMine.\n")
    code, out, err = kvsim(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the card of --output is 'notes.md', which is there and no card; another name is wanted" in err
    assert (empty / "notes.md").read_text() == "# notes\n\nMine.\n" and not (empty / "notes.txt").exists()
    (empty / "notes.md").write_text(model.with_suffix(".md").read_text())
    assert kvsim(*arguments)[0] == 0
    assert (empty / "notes.md").read_text().startswith("# notes\n")


@pytest.mark.parametrize("words", ["evaluate", "train -o m.txt"])
def test_nothing_to_score(kvsim, trace: Path, empty: Path, words: str) -> None:
    rows = trace.read_text().splitlines()[:500]
    rows += [json.dumps({**json.loads(row), "hash_ids": []}) for row in trace.read_text().splitlines()[500:]]
    (empty / "half.jsonl").write_text("\n".join(rows) + "\n")
    verb, *flags = words.split()
    code, out, err = kvsim("learn", verb, "half.jsonl", *flags)
    assert (code, out) == (2, "")
    assert err == "kvsim: error: half.jsonl: nothing to score from prompt 630 on: no hash ids there\n"
    assert [path.name for path in empty.iterdir()] == ["half.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    {
        "learn": "a command is missing; known: evaluate, explain, train",
        "learn trian": "did you mean 'train'?",
        "learn explain --model none.txt": "learned model none.txt: No such file or directory",
        "learn evaluate TRACE --model TRACE": "not a LightGBM model in text format",
        "learn evaluate TRACE --fraction 1": "allowed: a number >= 0 and < 1",
        "learn train TRACE -o m.txt --fractions 0.9,0.2": "allowed: TRAIN,TUNE with TRAIN > 0, TUNE >= 0 and a sum < 1",
        "learn train TRACE -o m.txt --fractions half": "allowed: TRAIN,TUNE",
        "learn train TRACE -o m.txt --fraction 0.5 --fractions 0.5,0.2": "exclude each other; give one",
        "learn train TRACE -o m.txt --mode warmup --fractions 0.5,0.2": "give --fraction instead of --fractions",
        "learn train TRACE -o m.txt --mode slpit": "did you mean 'split'?",
        "learn train TRACE -o m.txt --fraction 0.01": "too short to learn from: 9 prompts give",
        "learn train TRACE -o TRACE": "which is the trace; another file is wanted",
        "learn train TRACE -o no/m.txt": "there is no folder 'no'",
        "learn train none.jsonl -o m.txt": "none.jsonl",
    }.items(),
)
def test_one_line_and_exit_code_2(kvsim, trace: Path, empty: Path, arguments: str, message: str) -> None:
    outcome = kvsim(*arguments.replace("TRACE", str(trace)).split())
    assert outcome.code == 2, outcome
    assert message in outcome.err and outcome.err.count("\n") == 1
    assert not (empty / "m.txt").exists() and not (empty / "m.md").exists()
