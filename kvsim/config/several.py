"""The configurations of a cluster of several models: each is what all have in common, and what its item says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Strict, ValidationError

from kvsim.config.findings import explained
from kvsim.config.layer import Layer, make_layer
from kvsim.config.models_keys import ModelItem
from kvsim.config.section import Section
from kvsim.config.tree import has
from kvsim.config.yaml_source import shown
from kvsim.errors import ConfigError, nearest

OF_ALL = {
    "models": "an item has no models of its own",
    "presets": "presets are of the whole file",
    "seed": "one seed is for the whole run, and each model's follows from it and its name",
    "cluster.total_gpus": "it counts the GPUs of the whole cluster",
}
"""What an item cannot say of its model alone, and why."""


class _List(Section):
    models: Annotated[tuple[ModelItem, ...], Strict(False)]


def seed_of(seed: int, name: str) -> int:
    """The seed of the model ``name`` in a run of ``seed``: by its name, whatever other models there are."""
    # Imported here: whatever reads a configuration would wait for it.
    from numpy.random import SeedSequence

    return int(SeedSequence([seed, *name.encode()]).generate_state(1)[0])


def items_of(layers: Sequence[Layer]) -> tuple[ModelItem, ...]:
    """The models that the last of ``layers`` to say so describes. Raises ``ConfigError``."""
    place = _place(layers)
    if place is None:
        return ()
    layer = layers[place]
    try:
        items = _List.model_validate({"models": layer.tree["models"]}).models
    except ValidationError as invalid:
        raise explained(invalid, (layer,)) from None
    _check_names(items, layer.where)
    for number, item in enumerate(items):
        _own_layer(layer.where, number, item)
    return items


def of_model(layers: Sequence[Layer], name: str | None) -> list[Layer]:
    """``layers`` with that of the model ``name`` above the one that describes it, and no models but this one.

    Raises ``ConfigError`` where several are described and ``name`` is ``None``, and where none is called so.
    """
    items = items_of(layers)
    place = _place(layers)
    if place is None or (not items and name is None):
        if name is not None:
            raise ConfigError(f"models has no '{name}': no item is given")
        return list(layers)
    where, names = layers[place].where, [item.name for item in items]
    if name is None:
        raise ConfigError(
            f"{where}: models describes a cluster of several models, which --pd, --cluster and the single node run; "
            "nothing else does, in Python simulate_models"
        )
    if name not in names:
        raise ConfigError(f"{where}: models has no '{name}'; {nearest(name, names)}")
    number = names.index(name)
    alone = Layer(where, {"models": []})
    return [*layers[: place + 1], alone, _own_layer(where, number, items[number]), *layers[place + 1 :]]


def _place(layers: Sequence[Layer]) -> int | None:
    """Which layer says the models; ``None``: none but config.yaml."""
    return next((place for place in range(len(layers) - 1, 0, -1) if "models" in layers[place].tree), None)


def _own_layer(where: str, number: int, item: ModelItem) -> Layer:
    """What an item says of its model. Raises ``ConfigError``."""
    own = f"{where}: models[{number}].config"
    given = item.config or {}
    for key, why in OF_ALL.items():
        if has(given, key):
            raise ConfigError(f"{own}: {key} cannot be a model's own: {why}")
    return make_layer(own, given)


def _check_names(items: Sequence[ModelItem], where: str) -> None:
    """Raise ``ConfigError`` for two that have a name in common: files of theirs would be one, or requests both's."""
    seen: dict[str, int] = {}
    whose: dict[str, int] = {}
    for number, item in enumerate(items):
        first = seen.setdefault(item.name.casefold(), number)
        if first != number:
            called = items[first].name
            other = "" if called == item.name else f" but for capitals, {shown(called)}, and files of both would be one"
            raise ConfigError(
                f"{where}: models[{number}].name = {shown(item.name)}: models[{first}] is called so{other}"
            )
        for name in item.names_in_traces:
            if name in whose:
                what = "has it twice" if whose[name] == number else f"models[{whose[name]}] takes these requests"
                raise ConfigError(f"{where}: models[{number}].trace_models: {shown(name)}: {what}")
            whose[name] = number
