"""Anomalous jets from Pythia: decays by hand-made records, windows, masses, and which classes are made."""

import json

import numpy as np
import pytest

from jetsweep.data import make_dataset
from jetsweep.data.sources._pythia_decays import Decays, contained, decays
from jetsweep.data.sources._pythia_processes import PROCESSES
from jetsweep.data.sources.pythia import PythiaOptions, class_counts
from jetsweep.errors import DataError

RECIPES = PROCESSES["anomaly"].recipes
LABELS = tuple(recipe.label for recipe in RECIPES)


def momenta(*rows):
    """Massless four-vectors of (pt, eta, phi)."""
    pt, eta, phi = np.array(rows, float).T
    return np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])


def test_decays_are_followed_through_copies_in_any_order():
    # event 0: 1 top, its copy 3 listed after a gluon 2, b 4 before W 5, W's copy 6, quarks 7 and 8
    # event 1: 10 Higgs, its copy 11, 12 and 13 light Higgs bosons, 14 a copy of 13, b quarks 15 to 18; 19 a copy of 15
    pdg_id = np.array([90, 6, 21, 6, 5, 24, 24, 1, -2, 90, 35, 35, 25, 25, 25, 5, -5, 5, -5, 5])
    event = np.array([0] * 9 + [1] * 11)
    first, last = np.zeros(20, int), np.zeros(20, int)
    for row, daughters in {
        1: (2, 3), 3: (4, 5), 5: (6, 6), 6: (7, 8), 10: (11, 11), 11: (12, 13), 12: (15, 16),
        13: (14, 14), 14: (17, 18), 15: (19, 19),
    }.items():  # fmt: skip
        first[row], last[row] = np.array(daughters) - (0 if row < 9 else 9)
    # the energy names the row
    p4 = np.column_stack([np.zeros((20, 3)), np.arange(20)])
    found = {i: decays(i, pdg_id, p4, event, np.array([0, 9, 20]), first, last) for i in (6, 24, 35)}
    assert found[6].p4[..., 3].tolist() == [[3, 7, 8, 4]]
    assert found[24].p4[..., 3].tolist() == [[6, 7, 8]]
    assert found[35].p4[..., 3].tolist() == [[11, 15, 16, 17, 18]]
    assert (found[6].event.tolist(), found[35].event.tolist()) == ([0], [1])
    none = decays(24, pdg_id[9:], p4[9:], event[9:] - 1, np.array([0, 11]), first[9:], last[9:])
    assert contained(np.array([0]), p4[:1], none, 1.0).tolist() == [-1]


def test_a_jet_contains_a_decay_only_with_all_its_products():
    jet = momenta((600, 0.5, 3.1), (600, 0.5, 3.1), (600, 0.5, 3.1))
    # across phi = pi, just inside and outside
    inside = momenta((600, 0.5, 3.0), (300, 0.5, -2.2), (300, 0.5, 2.2))
    outside = momenta((600, 0.5, 3.0), (300, 0.5, -2.1), (300, 0.5, 2.2))
    found = Decays(np.array([0, 1]), np.stack([outside, inside]))
    assert contained(np.array([0, 1, 2]), jet, found, 1.0).tolist() == [-1, 1, -1]


def test_shares_become_numbers_of_jets_that_add_up():
    options = PythiaOptions(process="anomaly", classes={"w-80": 0.1, "qcd": 0.8, "top-174": 0.1}, jets=30)
    assert class_counts(options, 30) == {"qcd": 24, "w-80": 3, "top-174": 3}
    for jets in range(3, 60):
        counts = class_counts(options, jets)
        assert sum(counts.values()) == jets
        assert all(abs(counts[name] - share * jets) < 1 for name, share in options.classes.items())
    equal = PythiaOptions(process="anomaly", classes=["hh-20", "qcd", "w-59"], jets=31)
    assert class_counts(equal, 31) == {"qcd": 11, "w-59": 10, "hh-20": 10}
    assert class_counts(PythiaOptions(jets=21), 21) == {"qcd": 11, "top": 10}


def test_the_name_of_a_dataset_changes_with_its_classes_only():
    assert "classes" not in PythiaOptions(process="top-qcd").model_dump()
    dumped = [PythiaOptions(process="anomaly", classes=x).model_dump(mode="json") for x in (["qcd", "w-59"], None)]
    assert [x.get("classes") for x in dumped] == [{"qcd": 0.5, "w-59": 0.5}, None]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": {"w-100": 1.0}}, r"classes: expected some of qcd, w-59, .*, hh-80 \(anomaly\), found 'w-100'"),
        ({"classes": ["top"]}, r"classes: expected some of qcd, .*, found 'top'"),
        ({"classes": {"qcd": 0.5, "w-80": 0.4}}, r"classes: expected shares that add up to 1, found a sum of 0\.9"),
        ({"classes": {"qcd": 1.2, "w-80": -0.2}}, r"classes: expected a share above 0 for w-80, found -0\.2"),
        ({"classes": {"qcd": float("nan")}}, r"classes: expected a share above 0 for qcd, found nan"),
        ({"classes": ["qcd", "qcd"]}, r"classes: expected every class once, found qcd more than once"),
        ({"classes": []}, r"classes: expected at least one of qcd, .*, hh-80 \(anomaly\), found none"),
        ({"classes": {"qcd": "half"}}, r"classes\.qcd: Input should be a valid number"),
        ({"classes": {"qcd": 0.99, "w-80": 0.01}, "jets": 10}, r"jets: expected enough .*, found 10, .* w-80 none"),
        ({"variations": True}, r"variations: expected two classes, signal and background, found qcd, w-59, .*"),
    ],
)
def test_a_wrong_choice_of_classes_is_one_sentence(tmp_path, options, sentence):
    with pytest.raises(DataError, match=rf"source pythia: {sentence}") as error:
        make_dataset("pythia", tmp_path / "x", process="anomaly", **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


# matched mass, range of the median jet mass (GeV). Initial-state radiation and multiple interactions inside R = 1.0 add
# to light jets (200 jets: w-59 74, w-80 93, top-80 99; groomed with soft drop 58, 78, 78; top-80 without either 84),
# neutrinos and what the detector loses take from four b quarks (168, groomed 152).
MASSES = {
    "w-59": (59, 60, 90), "w-80": (80, 80, 105), "w-120": (120, 112, 142), "w-174": (174, 165, 190),
    "top-80": (80, 82, 130), "top-174": (174, 165, 205), "hh-20": (174, 155, 190), "hh-80": (174, 150, 182),
}  # fmt: skip


@pytest.mark.generate
@pytest.mark.parametrize("label", LABELS)
def test_the_jets_of_a_class(label):
    from jetsweep.data.sources._pythia_events import generate_chunk

    jets = generate_chunk("anomaly", LABELS.index(label), 1, 0, 30)
    assert len(jets.checked()) == 30
    pt, eta, mass = (jets.scalars[name] for name in ("jet_pt", "jet_eta", "jet_mass"))
    assert ((pt > 549.9) & (pt < 650.1) & (np.abs(eta) < 2.001)).all()
    assert len(np.unique(jets.scalars["event"])) == 30  # the leading jet of an event alone
    if label == "qcd":
        assert "matched_mass" not in jets.scalars
        return
    nominal, low, high = MASSES[label]
    # the resonance itself, whose narrow line ends 0.1 GeV from its mass
    np.testing.assert_allclose(jets.scalars["matched_mass"], nominal, atol=0.1)
    assert low < np.median(mass) < high


def by_row(dataset, label):
    """Split and constituents of every jet of a class by its row."""
    found = {}
    for split in dataset.splits:
        table = dataset.to_arrow(split)
        rows = zip(table["source_row"].to_pylist(), table["label"].to_pylist(), table["constituents"].to_pylist())
        found |= {row: (split, jet) for row, name, jet in rows if name == label}
    return found


@pytest.mark.generate
def test_jets_depend_neither_on_processes_nor_on_the_other_classes(tmp_path):
    shares = {"qcd": 0.5, "w-80": 0.25, "hh-80": 0.25}
    options = {"process": "anomaly", "jets": 24, "seed": 5}
    one = make_dataset("pythia", tmp_path / "one", classes=shares, processes=1, **options)
    two = make_dataset("pythia", tmp_path / "two", classes=dict(reversed(shares.items())), processes=2, **options)
    assert one.digest == two.digest
    assert one.classes == ("qcd", "w-80", "hh-80")
    rows = {name: by_row(one, name) for name in one.classes}
    assert {name: len(x) for name, x in rows.items()} == {"qcd": 12, "w-80": 6, "hh-80": 6}
    assert len(set().union(*rows.values())) == 24
    alone = make_dataset("pythia", tmp_path / "x", classes=["hh-80"], processes=1, **{**options, "jets": 9})
    assert alone.classes == ("hh-80",)
    more = by_row(alone, "hh-80")
    assert len(more) == 9
    assert all(more[row] == jet for row, jet in rows["hh-80"].items())
    provenance = json.loads((tmp_path / "x" / "dataset.json").read_text())["provenance"]
    assert list(provenance["settings"]) == ["hh-80"]
    assert provenance["cuts"]["matching"] == {"hh-80": "Higgs boson and its four b quarks within 1.0 of the jet"}
