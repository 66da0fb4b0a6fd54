"""``models``: the configuration of each is what all have in common and what its item says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from places import REPOSITORY

from kvsim.config import load_config
from kvsim.config.load import load_several
from kvsim.config.several import seed_of
from kvsim.errors import ConfigError

TWO = {
    "seed": 7,
    "engine": {"max_num_seqs": 100},
    "models": [
        {"name": "chat", "share": 3, "config": {"engine": {"max_num_seqs": 64}, "slo": {"ttft_ms": 300}}},
        {"name": "code", "trace_models": ["gpt-4", "o1"]},
    ],
}


def test_an_item_stands_above_what_describes_it_and_below_all_that_comes_later() -> None:
    chat, code = (load_config(TWO, model=name).config for name in ("chat", "code"))
    assert (chat.engine.max_num_seqs, code.engine.max_num_seqs) == (64, 100)
    assert (chat.slo.ttft_ms, code.slo.ttft_ms) == (300, 2000)
    assert load_config(TWO, sets=["engine.max_num_seqs=32"], model="chat").config.engine.max_num_seqs == 32
    smoke = load_config(
        TWO | {"models": [{"name": "a", "config": {"cluster": {"simulate_racks": 9}}}]}, preset="smoke", model="a"
    )
    assert smoke.config.cluster.simulate_racks == 2


def test_a_model_alone_is_a_configuration_like_any_other() -> None:
    loaded = load_config(TWO, model="chat")
    assert loaded.config.models == ()
    assert load_config(loaded.config).config == loaded.config


def test_seeds_go_by_names() -> None:
    seeds = {name: load_config(TWO, model=name).config.seed for name in ("chat", "code")}
    assert seeds == {"chat": seed_of(7, "chat"), "code": seed_of(7, "code")}
    assert len({*seeds.values(), seed_of(8, "chat")}) == 3
    turned = {**TWO, "models": [*TWO["models"][::-1], {"name": "new"}]}
    assert load_config(turned, model="chat").config.seed == seeds["chat"]
    assert load_config(TWO, sets=["seed=8"], model="chat").config.seed == seed_of(8, "chat")


def test_seeds_of_traffic_that_somebody_set_stay() -> None:
    given = TWO | {"pd_trace": {"seed": 5}}
    assert load_config(given, model="chat").config.pd_trace.seed == 5


def test_what_is_described() -> None:
    several = load_several(TWO)
    assert [(item.name, item.share, item.names_in_traces) for item in several.items] == [
        ("chat", 3, ("chat",)),
        ("code", None, ("gpt-4", "o1")),
    ]
    assert several.common.engine.max_num_seqs == 100
    assert load_several({"seed": 7}) is None is load_several(TWO, sets=["models=[]"])
    assert load_config(TWO, sets=["models=[]"]).config.models == ()


def test_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("models:\n- name: a\n- name: b\n  config: {engine: {tensor_paralel_size: 2}}\n")
    with pytest.raises(ConfigError) as error:
        load_several(path)
    unknown = "unknown key 'engine.tensor_paralel_size'; did you mean 'tensor_parallel_size'?"
    assert str(error.value) == f"{path}: models[1].config: {unknown}"


def test_who_takes_one_model_refuses_several() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(TWO)
    said = "models describes a cluster of several models, which --pd, --cluster and the single node run; nothing else"
    assert str(error.value) == f"config: {said} does, in Python simulate_models"
    with pytest.raises(ConfigError, match=r"^config: models has no 'chatt'; did you mean 'chat'\?$"):
        load_config(TWO, model="chatt")
    with pytest.raises(ConfigError, match=r"^models has no 'chat': no item is given$"):
        load_config({"seed": 7}, model="chat")


LETTERS = "must be letters, digits, '.', '_' and '-', a letter or digit first, 40 at the most"
WRONG = {
    "models=3": "models = 3: must be a list",
    "models=[3]": "models[0] = 3: must be a mapping of keys",
    "models=[{share: 1}]": "models[0].name is missing",
    "models=[{name: a/b}]": f"models[0].name = 'a/b': {LETTERS}",
    "models=[{name: ..}]": f"models[0].name = '..': {LETTERS}",
    "models=[{name: ''}]": f"models[0].name = '': {LETTERS}",
    "models=[{name: 8}]": "models[0].name = 8: must be text, in quotes where it looks like a number",
    "models=[{name: a, shares: 1}]": "unknown key 'models[0].shares'; did you mean 'share'?",
    "models=[{name: a, share: 0}]": "models[0].share = 0: must be greater than 0",
    "models=[{name: a, share: half}]": "models[0].share = 'half': must be a number",
    "models=[{name: a}, {name: A}]": "models[1].name = 'A': models[0] is called so but for capitals, 'a', "
    "and files of both would be one",
    "models=[{name: a, trace_models: []}]": "models[0].trace_models = []: must have at least 1 item, not 0",
    "models=[{name: a, trace_models: [x, x]}]": "models[0].trace_models: 'x': has it twice",
    "models=[{name: a}, {name: b, trace_models: [a]}]": "models[1].trace_models: 'a': models[0] takes these requests",
    "models=[{name: a, trace_models: ['*']}, {name: b, trace_models: ['*']}]": (
        "models[1].trace_models: '*': models[0] takes these requests"
    ),
    "models=[{name: a, config: 3}]": "models[0].config = 3: must be a mapping of keys",
    "models=[{name: a, config: {engine: 3}}]": "models[0].config: engine = 3: must be a mapping, not a number",
    "models=[{name: a, config: {max_num_seqs: 3}}]": (
        "models[0].config: unknown key 'max_num_seqs'; did you mean 'engine.max_num_seqs'?"
    ),
    "models=[{name: a, config: {seed: 3}}]": (
        "models[0].config: seed cannot be a model's own: one seed is for the whole run, and each model's follows from "
        "it and its name"
    ),
    "models=[{name: a, config: {models: []}}]": (
        "models[0].config: models cannot be a model's own: an item has no models of its own"
    ),
    "models=[{name: a, config: {presets: {}}}]": (
        "models[0].config: presets cannot be a model's own: presets are of the whole file"
    ),
    "models=[{name: a, config: {cluster: {total_gpus: 8}}}]": (
        "models[0].config: cluster.total_gpus cannot be a model's own: it counts the GPUs of the whole cluster"
    ),
}


@pytest.mark.parametrize(("assignment", "words"), WRONG.items())
def test_it_is_one_line(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_several(sets=(assignment,))
    assert str(error.value) == f"--set: {words}"


def test_values_of_an_item_are_held_to_what_holds_of_all() -> None:
    sets = ["models=[{name: a, config: {engine: {max_num_seqs: 64, max_num_batched_tokens: 32}}}]"]
    assert load_several(sets=sets) is not None
    with pytest.raises(ConfigError, match=r"^--set: models\[0\]\.config: engine\.max_num_"):
        load_config(sets=sets, model="a", mode="pd")


def test_the_example_of_the_page(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "several_models.md").read_text("utf-8")
    path = tmp_path / "two.yaml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    items = load_several(path).items
    assert [(item.name, item.share) for item in items] == [("chat", 3), ("expert", 2)]
    gpus = [load_config(path, model=item.name, mode="pd").config.cluster.simulate_gpus_per_rack for item in items]
    assert gpus == [8, 16]


def test_a_pipe_is_read_once_and_believed_every_time(tmp_path: Path) -> None:
    """What looks for models in a configuration leaves nothing in a pipe for what reads the rest of it."""
    reader, writer = os.pipe()
    os.write(writer, b"seed: 7\nmodels: [{name: chat}]\n")
    os.close(writer)
    path = Path(f"/dev/fd/{reader}")
    several = load_several(path)
    assert several is not None and [item.name for item in several.items] == ["chat"]
    assert several.common.seed == 7
    assert load_config(path, model="chat").config.seed == seed_of(7, "chat")
    os.close(reader)
