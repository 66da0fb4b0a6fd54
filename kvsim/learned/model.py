"""A trained model: read and checked, written, and asked when blocks are used again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kvsim.content import content_path
from kvsim.errors import ConfigError
from kvsim.learned.features import FEATURES, Matrix
from kvsim.learned.gittins import STEPS, Floats
from kvsim.learned.modeltext import check_text, only_trees, silent

if TYPE_CHECKING:
    import lightgbm

SHIPPED = ("learned", "mooncake_conversation.txt")
VERSION = 1
"""Goes up when a feature changes its meaning or the steps of age their bounds."""
AGE_FEATURE = f"age_step_v{VERSION}"
"""The last column: which step of its age is asked about."""
COLUMNS = (*FEATURES, AGE_FEATURE)


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
        """A model file. Raises ``ConfigError`` where there is none, or none that can be used."""
        import lightgbm

        text = _text(Path(path))
        check_text(text, path)
        try:
            with silent():
                booster = lightgbm.Booster(model_str=only_trees(text))
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"learned model {path}: LightGBM cannot read it: {reason}") from None
        return cls(booster, str(path), text)

    def text(self) -> str:
        """What a model file holds."""
        return str(self._booster.model_to_string()) if self._text is None else self._text

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
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"learned model {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"learned model {path}: not a LightGBM model in text format") from None


def _difference(names: tuple[str, ...]) -> str:
    if missing := [name for name in COLUMNS if name not in names]:
        return f"it lacks the feature '{missing[0]}' of this version"
    if unknown := [name for name in names if name not in COLUMNS]:
        return f"it wants the feature '{unknown[0]}', which this version does not have"
    return "its features are in another order"
