"""A tokenizer that needs no hub: a token a character of ASCII, so that any tokens are a text of as many.

``python tokenizer.py FOLDER`` makes one that transformers loads from there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def make(folder: Path) -> Path:
    """Write it; returns its ``tokenizer.json``."""
    # A space and a line's end are written so in vocabularies of bytes.
    letters = [*map(chr, range(ord("!"), ord("~") + 1)), "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}",
               "\N{LATIN CAPITAL LETTER C WITH DOT ABOVE}"]  # fmt: skip
    ids = {token: place for place, token in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    config = SPECIAL | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 100_000,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": len(ids)}), encoding="utf-8")
    return path


if __name__ == "__main__":
    make(Path(sys.argv[1]))
