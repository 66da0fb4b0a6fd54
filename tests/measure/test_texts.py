"""Prompts as text: a tokenizer reads back the very tokens, and what is shared stays shared."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from small_tokenizer import write_tokenizer

from kvsim.errors import ConfigError
from kvsim.measure.prompt_tokens import ChainTokens
from kvsim.measure.prompts import Prompts
from kvsim.measure.settings import Sending
from kvsim.measure.texts import Texts
from kvsim.measure.wire import Abilities, Wire
from kvsim.workload.words import word_of

KINDS = ("byte_level", "metaspace")


@pytest.fixture(scope="module", params=KINDS)
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    return Texts(write_tokenizer(tmp_path_factory.mktemp("t") / "tokenizer.json", request.param))


def test_words_stay_one_token_wherever_they_stand(texts: Texts) -> None:
    assert len(texts.alphabet) > 200 and texts.special_tokens == 1
    random = np.random.default_rng(1)
    for _ in range(50):
        ids = random.choice(texts.alphabet, random.integers(1, 200))
        assert texts.is_exact(texts.text_of(ids), ids)


def test_prompts_of_an_exact_number_of_tokens_that_share_their_heads(texts: Texts) -> None:
    workload = word_of("in=60-90,out=5,prefix=40:3").generate(40, 5.0, 3)
    tokens = ChainTokens(workload, texts.alphabet, 7)
    wire = Wire(Sending(), "m", Abilities(), texts)
    requests, read = list(workload), []
    prompts = Prompts(workload, texts.alphabet, 7)
    for each in requests:
        text = wire._prompt(prompts.parts(each))["prompt"]
        read.append(texts.ids_of(str(text)))
        assert len(read[-1]) == each.prompt_tokens
        assert np.array_equal(read[-1], np.concatenate([tokens.head(*piece) for piece in each.pieces]))
    assert wire.inexact == 0
    for one, other in combinations(requests, 2):
        same_head = one.pieces[0] == other.pieces[0]
        first, second = read[one.request_id], read[other.request_id]
        assert np.array_equal(first[:40], second[:40]) == same_head
        assert first[40] != second[40] or not same_head


def test_a_server_that_adds_a_token_gets_one_less(texts: Texts) -> None:
    workload = word_of("in=50,out=5").generate(3, 5.0, 3)
    wire = Wire(Sending(), "m", Abilities(plain_text=False), texts)
    text = str(wire._prompt(Prompts(workload, texts.alphabet, 7).parts(workload.request(0)))["prompt"])
    assert len(texts.ids_of(text)) + texts.special_tokens == 50


@pytest.mark.parametrize(("content", "said"), [("{}", "no tokenizer.json"), (None, "no such file")])
def test_what_is_no_tokenizer_is_said(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        Texts(path)


def test_too_few_words_are_said(tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path / "tokenizer.json", "byte_level", words=20)
    with pytest.raises(ConfigError, match="words stay one token"):
        Texts(path)
