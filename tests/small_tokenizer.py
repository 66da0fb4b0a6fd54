"""A tokenizer of a few hundred words, trained here, in the two ways in which most models cut text."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers


def words_of(count: int) -> list[str]:
    syllables = ["ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu"]
    return ["".join(each) for each in product(syllables, repeat=2)][:count]


def write_tokenizer(path: Path, kind: str, words: int = 225) -> Path:
    """``byte_level`` as of Llama 3 and Qwen, ``metaspace`` as of Llama 2 and Mistral; a text begins with ``<s>``."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    if kind == "byte_level":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = list("abcdefghijklmnopqrstuvwxyz")
    known = words_of(words)
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([f"x {word}" for word in known for _ in range(5)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.save(str(path))
    return path
