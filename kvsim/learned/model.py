"""A trained model: read and checked, written, and asked when blocks are used again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kvsim.content import content_path
from kvsim.errors import ConfigError
from kvsim.learned.card import card_head, card_path, check_card
from kvsim.learned.features import FEATURES, Matrix
from kvsim.learned.gittins import STEPS, Floats

if TYPE_CHECKING:
    import lightgbm

SHIPPED = ("learned", "mooncake_conversation.txt")
VERSION = 1
"""Goes up when a feature changes its meaning or the steps of age their bounds."""
AGE_FEATURE = f"age_step_v{VERSION}"
"""The last column: which step of its age is asked about."""
COLUMNS = (*FEATURES, AGE_FEATURE)
KIND = {"objective": "binary", "num_class": "1", "num_tree_per_iteration": "1"}
"""What a model of kvsim's says of itself, by the first word of each."""
END = "end of trees\n"
"""What stands behind the last tree. What follows, how it was trained, has no part in what a model predicts; LightGBM
reads it all the same, and crashes on a parameter that it does not know.
"""


class Model:
    """The chance that a block is asked for within each step of its age, by LightGBM."""

    def __init__(self, booster: lightgbm.Booster, source: str, text: str | None = None) -> None:
        """``source``: the file, or how it was made; for messages. ``text``: what the file holds. Raises ``ConfigError``
        for other features.
        """
        self.source, self._text = source, text
        self._booster = booster
        names = tuple(booster.feature_name())
        if names != COLUMNS:
            raise ConfigError(f"learned model {source}: {_difference(names)}; train it again with: learn train")

    @classmethod
    def read(cls, path: str | Path) -> Model:
        """A model file, with its card beside it. Raises ``ConfigError`` where there is none that can be used."""
        import lightgbm

        text = _text(Path(path))
        check_card(Path(path), text)
        _check_kind(text, path)
        try:
            booster = lightgbm.Booster(model_str=text.partition(END)[0] + END)
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"learned model {path}: LightGBM cannot read it: {reason}") from None
        return cls(booster, str(path), text)

    def text(self) -> str:
        """What a model file holds."""
        return str(self._booster.model_to_string()) if self._text is None else self._text

    def write(self, path: Path) -> None:
        """A model file, and the shortest card beside it. Raises ``OSError``."""
        path.write_text(self.text(), encoding="utf-8", newline="\n")
        card_path(path).write_text(card_head(path, self.text()), encoding="utf-8", newline="\n")

    def chances(self, features: Matrix) -> Floats:
        """For each row of features and each step of age: that the block is asked for then, if not before."""
        rows = len(features)
        table = np.empty((rows * STEPS, len(COLUMNS)), dtype=np.float32)
        table[:, :-1] = np.repeat(features, STEPS, axis=0)
        table[:, -1] = np.tile(np.arange(STEPS, dtype=np.float32), rows)
        predicted = np.asarray(self._booster.predict(table, num_threads=1), dtype=np.float64)
        return predicted.reshape(rows, STEPS)

    def importances(self) -> list[tuple[str, float, int]]:
        """Feature, total gain, splits; the most useful first."""
        gains = self._booster.feature_importance("gain")
        splits = self._booster.feature_importance("split")
        rows = zip(COLUMNS, gains.tolist(), splits.tolist(), strict=True)
        return sorted(((name, float(gain), int(count)) for name, gain, count in rows), key=lambda row: -row[1])

    @property
    def num_trees(self) -> int:
        return int(self._booster.num_trees())


_read: dict[Path, tuple[tuple[int, int], Model]] = {}


def read_model(path: str | Path | None = None) -> Model:
    """A model file, by default the one that kvsim ships; read once as long as the file stays the same."""
    place = Path(os.path.realpath(content_path(*SHIPPED) if path is None else path))
    try:
        status = place.stat()
    except OSError as error:
        raise ConfigError(f"learned model {path or place}: {error.strerror or error}") from None
    stamp = status.st_mtime_ns, status.st_size
    if place not in _read or _read[place][0] != stamp:
        _read[place] = stamp, Model.read(place if path is None else path)
    return _read[place][1]


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"learned model {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        text = ""
    if not text.startswith("tree\n"):
        raise ConfigError(f"learned model {path}: not a LightGBM model in text format")
    return text


def _check_kind(text: str, path: str | Path) -> None:
    fields = dict(line.partition("=")[::2] for line in text.partition("\nTree=0\n")[0].splitlines())
    for name, wanted in KIND.items():
        value = fields.get(name, "")
        if value.split()[:1] != [wanted]:
            raise ConfigError(f"learned model {path}: {name} is {value!r}; allowed: {wanted!r}")


def _difference(names: tuple[str, ...]) -> str:
    if missing := [name for name in COLUMNS if name not in names]:
        return f"it lacks the feature '{missing[0]}' of this version"
    if unknown := [name for name in names if name not in COLUMNS]:
        return f"it wants the feature '{unknown[0]}', which this version does not have"
    return "its features are in another order"
