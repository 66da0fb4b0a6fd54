"""Settings of any kind and size, as the schema of the configuration allows them: whatever key it gets is tried too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kvsim.config.schema import Config
from kvsim.plan.acceptance import PUBLISHED
from kvsim.policy.scheduling import ORDERS
from kvsim.sim.routing import DECODE_ROUTERS, PREFILL_ROUTERS

NAMES = {
    "routing.prefill": tuple(PREFILL_ROUTERS),
    "routing.decode": tuple(DECODE_ROUTERS),
    "engine.scheduling_policy": tuple(ORDERS),
    "engine.vllm_version": ("0.8.5", "0.12.0", "0.16.0", "0.19.0", "0.23.0", "0.25.0", "0.29.0", "0.32.0"),
    "engine.speculative.acceptance_of": tuple(PUBLISHED),
    "engine.speculative.model": ("llama-3.2-1b",),
}
"""To the schema any string will do."""
SIZES = (*range(10), *(1 << bits for bits in range(4, 13)))
AMOUNTS = (0.0, 1e-3, 0.1, 0.25, 0.5, 0.9, 1.0, 1.5, 2.0, 10.0, 1000.0)


def some_settings(sections: tuple[str, ...], most: int) -> SearchStrategy[dict[str, Any]]:
    """Up to ``most`` settings of these sections and those in them, by dotted key."""
    allowed: dict[str, SearchStrategy[Any]] = {}
    for section in sections:
        schema = Config.model_fields[section].annotation.model_json_schema()  # type: ignore[union-attr]
        allowed |= {key: values(key, rule) for key, rule in rules(section, schema, schema.get("$defs", {}))}
    keys = st.lists(st.sampled_from(sorted(allowed)), unique=True, max_size=most)
    return keys.flatmap(lambda chosen: st.fixed_dictionaries({key: allowed[key] for key in chosen}))


def rules(section: str, schema: dict[str, Any], parts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted keys, and what stands of each in the schema."""
    for key, rule in schema["properties"].items():
        part = rule.get("$ref", "").rpartition("/")[2]
        if part:
            yield from rules(f"{section}.{key}", parts[part], parts)
        else:
            yield f"{section}.{key}", rule


def values(key: str, rule: dict[str, Any]) -> SearchStrategy[Any]:
    """What a JSON schema allows at a key."""
    if "anyOf" in rule:
        return st.one_of(*(values(key, each) for each in rule["anyOf"]))
    if "enum" in rule:
        return st.sampled_from(rule["enum"])
    if "const" in rule:
        return st.just(rule["const"])
    match rule["type"]:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "string":
            return st.sampled_from(NAMES[key])
        case "integer":
            return st.sampled_from([size for size in SIZES if within(size, rule)])
        case "number":
            return st.sampled_from([amount for amount in AMOUNTS if within(amount, rule)])
        case "array":
            return some_of(key, rule)
    raise NotImplementedError(f"{key}: {rule}")


def some_of(key: str, rule: dict[str, Any]) -> SearchStrategy[list[Any]]:
    """A short list; names in the order in which the schema has them, each once."""
    items, least = rule["items"], rule.get("minItems", 0)
    if "enum" in items:
        chosen = st.sets(st.sampled_from(items["enum"]), min_size=least)
        return chosen.map(lambda names: [name for name in items["enum"] if name in names])
    return st.lists(values(key, items), min_size=least, max_size=3)


def within(value: float, rule: dict[str, Any]) -> bool:
    return rule.get("minimum", value) <= value <= rule.get("maximum", value) and rule.get(
        "exclusiveMinimum", value - 1
    ) < value < rule.get("exclusiveMaximum", value + 1)
