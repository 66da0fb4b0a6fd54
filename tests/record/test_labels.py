import math

import pytest

from kvsim.record.labels import COMPONENT_LABELS, number, percent, rate, ratio, relative_difference, system_label
from kvsim.record.result import COMPONENTS


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "-"),
        (math.nan, "-"),
        (0, "0"),
        (1234567.8, "1,234,568"),
        (999.6, "1,000"),
        (123.4, "123"),
        (99.96, "100"),
        (99.94, "99.9"),
        (12.345, "12.3"),
        (1.2345, "1.23"),
        (0.012345, "0.0123"),
        (0.00012345, "1.23e-04"),
        (-5.678, "-5.68"),
    ],
)
def test_numbers_keep_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    "share, text",
    [
        (None, "-"),
        (0, "0%"),
        (0.0001, "<0.1%"),
        (0.0234, "2.3%"),
        (0.5, "50%"),
        (0.994, "99.4%"),
        (0.9999, ">99.9%"),
        (1.0, "100%"),
        (1.7, "170%"),
    ],
)
def test_percentages_are_never_rounded_to_none_or_all(share, text):
    assert percent(share) == text


def test_ratios_and_names():
    assert ratio([640, 1920]) == "640:1,920"
    assert ratio([1, 2.5]) == "1:2.50"
    assert (system_label("pd"), system_label("unified")) == ("PD", "unified")


def test_relative_difference_is_a_share_of_the_larger():
    assert relative_difference(80, 100) == relative_difference(100, 80) == 0.2
    assert relative_difference(0, 0) == 0


def test_every_component_has_a_label_in_the_order_of_the_story():
    assert tuple(f"{name}_s" for name in COMPONENT_LABELS) == COMPONENTS


@pytest.mark.parametrize(
    "asked, text",
    [
        (9.25, "9.25"),
        (1234.5678, "1,234.5678"),
        (12, "12"),
        (10 / 3, "3.33"),
        (20_000 / 3, "6,667"),
        (0.00012345, "0.00012345"),
    ],
)
def test_rates_are_as_they_were_given(asked, text):
    assert rate(asked) == text
