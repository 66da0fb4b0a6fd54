"""Recorded responses, tokenizers and flags that are wrong: one line that says where."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from kvsim.errors import KvsimError
from kvsim.launch.front_end import read_front_end
from kvsim.serve.responses import read_responses
from kvsim.serve.serving import listening
from kvsim.serve.tokens import tokens_from

RESPONSES = {
    "": "is empty",
    "\n\n": "is empty",
    "hehe": "line 1: is not JSON",
    '["hehe"]': 'line 1: must be {"prompt": text, "response": text}',
    '{"prompt": "a", "response": "b"}\n{"prompt": "a"}': "line 2: 'response' is missing",
    '{"prompt": 3, "response": "b"}': "line 1: 'prompt' is no text",
    '{"prompt": "", "response": "b"}': "line 1: 'prompt' is empty",
    '{"prompt": "a", "response": "\\ud800"}': "half a surrogate pair",
    '{"prompt": "a", "response": "b"}\n\n{"prompt": "a", "response": "c"}': "line 3: another response to the prompt of "
    "line 1",
}


@pytest.mark.parametrize("text", RESPONSES)
def test_wrong_responses(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(KvsimError) as raised:
        read_responses(path)
    assert RESPONSES[text] in str(raised.value) and str(path) in str(raised.value)


def test_responses_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(KvsimError, match="cannot be read: No such file"):
        read_responses(tmp_path / "none.jsonl")
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    with pytest.raises(KvsimError, match="is not UTF-8"):
        read_responses(tmp_path / "b")


def test_a_prompt_may_come_twice_with_one_response(tmp_path: Path) -> None:
    (tmp_path / "r").write_text('{"prompt": "a", "response": "b", "more": 1}\n' * 2, "utf-8")
    assert read_responses(tmp_path / "r") == {"a": "b"}


def test_wrong_tokenizers(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "t.json").write_text("{}", "utf-8")
    for path, message in (
        (tmp_path / "t.json", "not a tokenizer.json"),
        (Path("gpt2"), "cannot be read: No such file"),
        (tmp_path, "cannot be read: No such file"),
    ):
        with pytest.raises(KvsimError, match=message):
            tokens_from(path)


FLAGS = {
    "--port 70000": "--port 70000: must be from 0 to 65535",
    "--port x": "--port: 'x' must be a whole number",
    "--prot 80": "unknown flag '--prot'; did you mean '--port'?",
    "--uds /s": "--uds is not offered",
    "--ssl-keyfile k": "--ssl-keyfile is not offered",
    "--stream-interval 0": "--stream-interval 0: must be from 1",
    "--max-num-queued-reqs 0": "--max-num-queued-reqs 0: must be from 1",
    "--lora-modules tuned": "--lora-modules 'tuned': must be name=path",
    "one two": "'two' belongs to no flag; the model is 'one'",
    "one --model two": "two models",
}


@pytest.mark.parametrize("line", FLAGS)
def test_wrong_flags(line: str) -> None:
    with pytest.raises(KvsimError) as raised:
        read_front_end(line.split(), {})
    assert FLAGS[line] in str(raised.value)


def test_what_flags_say() -> None:
    line, found = read_front_end(
        ["m", "--api-key", "a", "b", "--served-model-name", "x", "y", "--max-num-seqs", "4", "--disable-log-stats"],
        {"VLLM_API_KEY": "c"},
    )
    assert (line.model, line.arguments) == ("m", {"max_num_seqs": 4})
    assert (found.api_keys, found.served_model_names, found.host) == (("a", "b"), ("x", "y"), "127.0.0.1")
    assert not any("--api-key" in note for note in line.notes)
    assert read_front_end([], {"VLLM_API_KEY": "c"})[1].api_keys == ("c",)
    assert "'c'" not in repr(read_front_end([], {"VLLM_API_KEY": "c"})[1])
    assert read_front_end([], {})[1].names_model is False


def test_flags_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("port: 9\napi-key: [k]\nmax-num-seqs: 3\n", "utf-8")
    line, found = read_front_end(["--config", str(tmp_path / "c.yaml"), "--port", "10"], {})
    assert (found.port, found.api_keys, line.arguments) == (10, ("k",), {"max_num_seqs": 3})


def test_a_place_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(KvsimError, match=rf"--port {port}: cannot listen there: Address already in use"):
            listening("127.0.0.1", port)
    with pytest.raises(KvsimError, match=r"--host no\.such\.host\.invalid:"):
        listening("no.such.host.invalid", 0)


def test_a_real_tokenizer_counts_and_answers_byte_for_byte(tmp_path: Path) -> None:
    """A byte-level tokenizer made here, whose tokens may be parts of characters."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>"], initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(["the day and the way of the old and the new, as we say it to all of you"] * 20, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    tokens = tokens_from(path)
    text = "the day ☃ 日本 and\n\nthe way"
    ids, pieces = tokens.split(text)
    assert "".join(pieces) == text and len(ids) == len(pieces) > 10
    assert tokens.decode(ids) == text
    assert tokens.encode(text, special=True) == [made.token_to_id("<s>"), *ids]
    assert tokens.encode(text, special=False) == ids
    assert tokens.decode([10**9]) == "<|1000000000|>"

    from live_server import MODEL, SMALL, serving

    responses = tmp_path / "r.jsonl"
    responses.write_text(json.dumps({"prompt": "hehe", "response": text}), "utf-8")
    with serving(MODEL, *SMALL, tokenizer=path, responses=responses) as live:
        found = live.complete("hehe", max_tokens=100)
        assert found["choices"][0]["text"] == text
        assert found["usage"]["completion_tokens"] == len(ids) + 1
        assert found["usage"]["prompt_tokens"] == len(made.encode("hehe").ids)
        chunks = live.chunks("/v1/completions", {"prompt": "hehe", "max_tokens": 100})
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text
        filler = live.complete("another", max_tokens=30)["choices"][0]["text"]
        assert len(made.encode(filler, add_special_tokens=False).ids) == 30
