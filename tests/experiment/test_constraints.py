"""Bounds on outcomes: what they say, and how far a value is outside."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetsweep.experiment.constraints import parse_constraint

SIGNS = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}


@pytest.mark.parametrize(
    ("text", "name", "sign", "bound"),
    [
        ("parameters < 1e6", "parameters", "<", 1e6),
        ("val/mass_jsd_at_0.1<=0.05", "val/mass_jsd_at_0.1", "<=", 0.05),
        (" val/rejection_at_0.5 >= 1_000 ", "val/rejection_at_0.5", ">=", 1000.0),
        ("train/loss > -.5", "train/loss", ">", -0.5),
    ],
)
def test_parsed(text, name, sign, bound):
    constraint = parse_constraint(text)
    assert (constraint.text, constraint.name, constraint.sign, constraint.bound) == (text, name, sign, bound)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a <", "< 1", "a < b", "a < 1 < 2", "1 < a", "a == 1", "a < nan", "a < inf", "a < 1e999", "f(a) < 1"],
)
def test_not_a_bound(text):
    with pytest.raises(ValueError, match=r"^expected a name, one of < <= > >=, and a number"):
        parse_constraint(text)


def test_violations_are_in_units_of_the_bound():
    assert parse_constraint("parameters < 1e6").violation(1.5e6) == pytest.approx(0.5)
    assert parse_constraint("val/loss < 0.02").violation(0.03) == pytest.approx(0.5)
    assert parse_constraint("val/auc >= 0.9").violation(0.99) == pytest.approx(-0.1)
    assert parse_constraint("val/loss < 0").violation(0.25) == 0.25
    assert parse_constraint("val/loss < 0.02").violation(math.nan) == 1.0


@given(st.floats(allow_nan=False), st.floats(-1e9, 1e9), st.sampled_from(sorted(SIGNS)))
def test_positive_means_violated(value, bound, sign):
    violation = parse_constraint(f"a {sign} {bound!r}").violation(value)
    assert math.isfinite(violation)
    if abs(value - bound) > 1e-9 * abs(bound) and not (bound and abs(value - bound) / abs(bound) == 0):
        assert (violation <= 0) is SIGNS[sign](value, bound)


@pytest.mark.parametrize("sign", sorted(SIGNS))
def test_exactly_on_the_bound(sign):
    assert (parse_constraint(f"a {sign} 0.1").violation(0.1) > 0) is (sign in "<>")
