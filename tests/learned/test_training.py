"""Examples and training: what may be said of a block, when a model is refused, and the same bytes twice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from chats import accesses_of, chats

from kvsim.errors import ConfigError, WorkloadError
from kvsim.learned import AGES_S, COLUMNS, STEPS, Model, read_model, train_on
from kvsim.learned.card import card_head, card_path
from kvsim.learned.examples import asked_by, examples_of
from kvsim.learned.gittins import gittins_index
from kvsim.learned.model import SHIPPED
from kvsim.learned.train import first_prompts


@pytest.fixture(scope="module")
def text() -> str:
    return train_on(chats(), 0.6, 0.2).model.text()


def test_examples_by_hand() -> None:
    """Asked for at 0 and 40 s: not by 15 and 30 s, then yes. What was asked for at 40 s is watched for 35 s."""
    accesses = accesses_of([(0.0, [1], -1, 0), (40.0, [1], -1, 0), (75.0, [2], -1, 0)])
    examples = examples_of(asked_by(accesses))
    seen = sorted(zip(examples.table[:, 3], examples.table[:, -1], examples.asked, strict=True))
    assert seen == [(0, 0, False), (0, 1, False), (0, 2, True), (1, 0, False), (1, 1, False)]
    assert AGES_S[:4] == (0, 15, 30, 45)
    assert len(examples_of(asked_by(accesses), first=1)) == 2


def test_neighbours_of_one_fate_are_one_example() -> None:
    accesses = accesses_of([(0.0, [*range(17)], -1, 0), (20.0, [0, 1, 99], -1, 0), (500.0, [500], -1, 0)])
    examples = examples_of(asked_by(accesses))
    first = examples.table[:, -1] == 0
    assert sorted(examples.weight[first].tolist()) == pytest.approx(sorted([2**0.5, 14**0.5, 1, 2**0.5, 1]))


def test_gittins_index_by_hand() -> None:
    """Sure to come in the second step: worth half as much before the first, where nothing can come."""
    chances = np.zeros((1, STEPS))
    chances[0, 1] = 1.0
    found = gittins_index(chances)[0]
    assert found[1] == pytest.approx(1 / 7.5, rel=1e-4)
    assert found[0] == pytest.approx(1 / 22.5, rel=1e-4)
    assert found[2] < 1e-6
    even = gittins_index(np.full((1, STEPS), 0.2))[0]
    assert even[0] == pytest.approx(0.2 / (15 * 0.9))


def test_the_same_seed_gives_the_same_bytes(text: str) -> None:
    assert train_on(chats(), 0.6, 0.2).model.text() == text
    assert train_on(chats(), 0.6, 0.2, seed=1).model.text() != text


def test_what_comes_after_the_training_parts_is_not_looked_at(text: str) -> None:
    whole = chats()
    assert train_on(first_prompts(whole, 1200), 0.75, 0.25).model.text() == text


def test_it_learns() -> None:
    training = train_on(chats(), 0.6, 0.2)
    assert training.tuning_loss is not None and training.baseline_loss is not None
    assert training.tuning_loss < 0.6 * training.baseline_loss
    assert training.trees <= 150 and training.parts.score == 1200


def test_too_short_a_trace() -> None:
    with pytest.raises(WorkloadError, match="too short to learn from: 20 prompts give") as caught:
        train_on(chats(20))
    assert "\n" not in str(caught.value)
    with pytest.raises(WorkloadError, match="too short to learn from"):
        train_on(accesses_of([]))


def carded(path: Path, text: str) -> Path:
    """A model file with the shortest card, whoever made it."""
    path.write_text(text)
    card_path(path).write_text(card_head(path, text))
    return path


def test_a_file_is_the_model(text: str, tmp_path: Path) -> None:
    path = carded(tmp_path / "m.txt", text)
    features = asked_by(chats(100)).features
    trained, read = train_on(chats(), 0.6, 0.2).model, Model.read(path)
    assert np.array_equal(trained.chances(features), read.chances(features))
    assert read.text() == text
    assert read_model(path) is read_model(path)
    trained.write(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_text() == text
    assert read_model(tmp_path / "again.txt").text() == text


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_model(path)
    message = str(caught.value)
    assert message.startswith(f"learned model {path}: ") and "\n" not in message
    return message


def test_files_that_are_no_models(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    assert "No such file" in refused(path)
    assert "Is a directory" in refused(tmp_path)
    for content in ("", "hello\n", "{}"):
        carded(path, content)
        assert refused(path).endswith("not a LightGBM model in text format")
    path.write_bytes(b"\x80\x04\x95\xff\xfe")
    assert refused(path).endswith("not a LightGBM model in text format")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_files_that_are_cut_short(text: str, tmp_path: Path, share: float) -> None:
    path = carded(tmp_path / "m.txt", text)
    path.write_text(text[: int(share * len(text))])
    assert "cut short or damaged: its sha256 is " in refused(path)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("split_feature=\\d+", "split_feature=999"),
        ("left_child=-?\\d+", "left_child=9999"),
        ("left_child=-?\\d+", "left_child=0"),
        ("right_child=.*\n", ""),
        ("num_leaves=\\d+", "num_leaves=many"),
        ("num_cat=0", "num_cat=7"),
        ("leaf_value=[^ ]+", "leaf_value=nan"),
        ("\nend of parameters\n", "\n"),
    ],
)
def test_files_that_are_damaged(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], line: str, changed: str
) -> None:
    """LightGBM crashes on some of these, walks for ever through others, or finds numbers beside its memory."""
    path = carded(tmp_path / "m.txt", text)
    path.write_text(damaged := re.sub(line, changed, text, count=1))
    assert damaged != text and "cut short or damaged" in refused(path)
    assert capfd.readouterr() == ("", "")


def test_a_model_needs_its_card(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text(text)
    assert f"no card {tmp_path / 'm.md'} beside it" in refused(path)
    (tmp_path / "m.md").write_text("# m\n\nMine.\n")
    assert "has no line 'Model: sha256 ...'; a card as 'learn train' writes it has the model's" in refused(path)
    (tmp_path / "m.md").write_bytes(b"\xff")
    assert refused(path).endswith("cannot be read: not UTF-8 text")
    path.write_bytes(text.replace("\n", "\r\n").encode())
    (tmp_path / "m.md").write_text(card_head(path, text))
    assert read_model(path).text() == text, "line ends of another system are no damage"


@pytest.mark.parametrize(
    ("line", "changed", "complaint"),
    [
        ("objective=.*", "objective=regression", "objective is 'regression'; allowed: 'binary'"),
        ("num_class=.*", "num_class=3", "num_class is '3'; allowed: '1'"),
        ("num_tree_per_iteration=.*", "num_tree_per_iteration=3", "num_tree_per_iteration is '3'; allowed: '1'"),
        ("max_feature_idx=.*", "max_feature_idx=99", "LightGBM cannot read it: Wrong size of feature_names"),
    ],
)
def test_models_of_another_kind(text: str, tmp_path: Path, line: str, changed: str, complaint: str) -> None:
    path = carded(tmp_path / "m.txt", re.sub(line, changed, text, count=1))
    assert complaint in refused(path)


@pytest.mark.parametrize("changed", ["[max_depht: -1]", "[max_depth -1]", ""])
def test_parameters_of_the_training_do_not_matter(text: str, tmp_path: Path, changed: str) -> None:
    path = carded(tmp_path / "m.txt", re.sub(r"\[max_depth: .*\]", changed, text))
    assert read_model(path).num_trees == text.count("\nTree=")


@pytest.mark.parametrize("parameters", [{"min_data_in_leaf": 400}, {"num_leaves": 2}, {"num_leaves": 99}])
def test_trees_of_any_shape(tmp_path: Path, parameters: dict[str, int]) -> None:
    import lightgbm

    table = np.arange(500.0 * len(COLUMNS)).reshape(500, -1) % 97
    data = lightgbm.Dataset(table, np.arange(500) % 3 == 0, feature_name=list(COLUMNS))
    booster = lightgbm.train({"objective": "binary", "verbose": -1, **parameters}, data, 3)
    path = carded(tmp_path / "m.txt", booster.model_to_string())
    assert read_model(path).num_trees in (1, 3)


def test_models_of_other_features(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    carded(path, text.replace(" idle_s ", " idle "))
    assert "it lacks the feature 'idle_s' of this version" in refused(path)
    carded(path, re.sub("age_step_v1", "age_step_v0", text))
    assert "it lacks the feature 'age_step_v1' of this version" in refused(path)
    carded(path, text.replace(" idle_s age_s ", " age_s idle_s "))
    assert "its features are in another order" in refused(path)


def test_the_shipped_model() -> None:
    from kvsim.content import content_path

    path = content_path(*SHIPPED)
    assert path.stat().st_size < 1_000_000
    assert read_model().num_trees > 10
