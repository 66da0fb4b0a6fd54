import math
from dataclasses import dataclass, field

import numpy as np

from kvsim.record.plain import OMITTED, plain, spliced, written


def test_plain_leaves_nothing_json_cannot_say(tmp_path):
    tree = {
        "a": (np.float64(1.5), math.nan),
        "b": {"c": np.int64(3), 4: math.inf},
        "d": np.array([1, 2]),
        "e": tmp_path,
    }
    assert plain(tree) == {"a": [1.5, None], "b": {"c": 3, "4": None}, "d": [1, 2], "e": str(tmp_path)}
    assert plain([True, None, "x", np.bool_(False)]) == [True, None, "x", False]


@dataclass
class Inner:
    b: float
    c: int
    d: int | None = field(default=None, metadata=OMITTED)


@dataclass
class Outer:
    a: int
    inner: Inner = field(metadata=spliced())
    z: object = None
    absent: int | None = field(default=None, metadata=OMITTED)


@dataclass
class Chosen(Outer):
    inner: Inner = field(metadata=spliced("c", "b"))
    z: object = field(default=(), metadata=written(len))


def test_a_dataclass_is_an_object_with_its_fields_in_their_order():
    assert plain(Inner(math.nan, 1)) == {"b": None, "c": 1}
    assert list(plain(Inner(0.5, 1, 2))) == ["b", "c", "d"]
    assert plain({"x": [Inner(0.5, 1)]}) == {"x": [{"b": 0.5, "c": 1}]}


def test_fields_of_a_part_stand_where_it_stands():
    assert list(plain(Outer(1, Inner(0.5, 2))).items()) == [("a", 1), ("b", 0.5), ("c", 2), ("z", None)]
    assert list(plain(Outer(1, Inner(0.5, 2, 3), absent=4))) == ["a", "b", "c", "d", "z", "absent"]


def test_chosen_fields_stand_in_the_order_they_are_chosen_in_and_a_field_as_it_is_written():
    assert list(plain(Chosen(1, Inner(0.5, 2, 3), "four")).items()) == [("a", 1), ("c", 2), ("b", 0.5), ("z", 4)]
