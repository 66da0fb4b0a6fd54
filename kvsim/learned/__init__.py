"""Learning when blocks are asked for again: features, training and inference of the LightGBM model."""

from __future__ import annotations

from kvsim.learned.features import FEATURES, History, Prompt
from kvsim.learned.gittins import AGES_S, STEPS
from kvsim.learned.model import COLUMNS, Model, read_model
from kvsim.learned.train import Parts, Training, train_on, train_online

__all__ = [
    "AGES_S",
    "COLUMNS",
    "FEATURES",
    "STEPS",
    "History",
    "Model",
    "Parts",
    "Prompt",
    "Training",
    "read_model",
    "train_on",
    "train_online",
]
