"""Annealing schedules against the published tables, epoch by epoch."""

import pytest
from pydantic import TypeAdapter, ValidationError

from jetsweep.losses import AnnealingConfig, annealing_weight

QUARTERS = [0, 0.25, 0.5, 0.75, 1]
NINTHS = [i / 9 for i in range(10)]
TF1 = [i / 29 for i in range(30)]
TABLES = {
    "vae-jet": [*QUARTERS, *[1] * 5, *QUARTERS, *[1] * 5, *QUARTERS, *[1] * 20],
    "vae-jet-tf1": [0, *TF1, *[1] * 30, *TF1, *[1] * 30, *TF1, *[1] * 20],
    "disco": [*[0] * 10, *NINTHS, *[1] * 10, *NINTHS, *[1] * 20],
    "outlier-exposure": [*[0] * 10, *QUARTERS, *[1] * 5, *QUARTERS, *[1] * 5, *QUARTERS, *[1] * 20],
}


def weights(epochs, **config):
    schedule = TypeAdapter(AnnealingConfig).validate_python(config)
    return [annealing_weight(schedule, epoch) for epoch in range(epochs)]


@pytest.mark.parametrize("table", TABLES)
def test_published_tables(table):
    expected = TABLES[table]
    assert weights(len(expected), name="published", table=table) == pytest.approx(expected)


def test_epochs_that_the_paper_names():
    tf1 = weights(130, name="published", table="vae-jet-tf1")
    assert [tf1[e] for e in (0, 1, 2, 30, 60, 61, 62, 90, 121)] == pytest.approx([0, 0, 1 / 29, 1, 1, 0, 1 / 29, 1, 0])
    disco = weights(45, name="published", table="disco")
    assert [disco[e] for e in (10, 11, 19, 29, 30, 31, 39, 44)] == pytest.approx([0, 1 / 9, 1, 1, 0, 1 / 9, 1, 1])


def test_schedules_by_formula():
    assert weights(3, name="constant") == [1, 1, 1]
    assert weights(6, name="linear", delay=1, rise=4) == [0, 0, 0.25, 0.5, 0.75, 1]
    cyclical = weights(45, name="cyclical", period=10, rise=4, cycles=3)
    assert cyclical == weights(45, name="published", table="vae-jet")


def test_fractions_of_an_epoch():
    linear = TypeAdapter(AnnealingConfig).validate_python({"name": "linear", "delay": 0.5, "rise": 2.0})
    assert [annealing_weight(linear, e) for e in (0.25, 0.5, 1.0, 2.25, 2.5, 9)] == [0, 0, 0.25, 0.875, 1, 1]
    published = TypeAdapter(AnnealingConfig).validate_python({"name": "published", "table": "disco"})
    assert [annealing_weight(published, e) for e in (10.9, 29.99, 30.0)] == pytest.approx([0.1, 1, 0])


def test_a_rise_longer_than_its_period_is_refused():
    with pytest.raises(ValidationError, match="rise=6 is longer than period=5"):
        weights(1, name="cyclical", period=5, rise=6)
