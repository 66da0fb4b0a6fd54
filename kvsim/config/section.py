"""What every part of the schema shares: strictness, and the kinds of number a configuration holds."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from kvsim.spec.tier_kinds import TierName


class Section(BaseModel):
    """A mapping of the configuration.

    Holds types and ranges and no default: those stand in ``config.yaml``. Strict: a bool is no number, 8.0 no integer,
    and NaN or infinity nothing at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class Item(Section):
    """An item of a list, whose defaults ``config.yaml`` cannot hold: what is left out is ``null``."""


Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]

# YAML has lists where a frozen model wants tuples, hence not strict; the items stay strict.
Counts = Annotated[tuple[Count, ...], Field(min_length=1), Strict(False)]
Ratio = Annotated[tuple[Count, Count], Strict(False)]
Ratios = Annotated[tuple[Ratio, ...], Field(min_length=1), Strict(False)]
TierNames = Annotated[tuple[TierName, ...], Strict(False)]


def _ascending(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    tokens = [knot[0] for knot in knots]
    if len(knots) == 1 or any(low >= high for low, high in pairwise(tokens)):
        raise ValueError("must be two or more pairs of (tokens, seconds), tokens ascending")
    return knots


Knots = Annotated[
    tuple[Annotated[tuple[NonNegative, NonNegative], Strict(False)], ...], Strict(False), AfterValidator(_ascending)
]


def _one_or_more(given: object) -> object:
    return [given] if isinstance(given, int | float) and not isinstance(given, bool) else given


def _never_rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if any(low < high for low, high in pairwise(shares)):
        raise ValueError("must never rise: a draft is accepted where all before it are")
    return shares


Acceptance = Annotated[tuple[Share, ...], Strict(False), AfterValidator(_never_rising), BeforeValidator(_one_or_more)]
