"""HepMC: known particles become known jets; labels from the record; damaged files are refused."""

import gzip

import numpy as np
import pyhepmc
import pytest

from jetsweep.data import make_dataset
from jetsweep.errors import DataError

ALL = {"files": {"all": ["*"]}}
TRUTH = {"column": "resonance", "classes": {"qcd": 0, "top": 6}}
CUTS = {"radius": 0.8, "min_pt": 30.0, "max_eta": 2.5}


def p4(pt, eta, phi, mass=0.0):
    momentum = np.array([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    return (*momentum, np.sqrt(momentum @ momentum + mass**2))


def add(event, parents, children):
    vertex = pyhepmc.GenVertex()
    for parent in parents:
        vertex.add_particle_in(parent)
    for child in children:
        vertex.add_particle_out(child)
    event.add_vertex(vertex)


def make_event(number, factor, unit):
    """A top quark (b, W → u d̄, a neutrino along it) against a gluon, and a forward gluon."""
    event = pyhepmc.GenEvent(unit, pyhepmc.Units.MM)
    event.event_number = number

    def particle(pdg_id, status, *where):
        return pyhepmc.GenParticle(tuple(factor * x for x in p4(*where)), pdg_id, status)

    beams = [pyhepmc.GenParticle((0, 0, sign * 7000 * factor, 7000 * factor), 2212, 4) for sign in (1, -1)]
    top = [particle(6, 22, 300, 0.1, 0.0, 172), particle(6, 62, 300, 0.1, 0.0, 172)]
    gluon, forward = particle(21, 23, 290, -0.5, 3.1), particle(21, 23, 40, 4.0, 1.0)
    bottom, w = particle(5, 23, 100, 0.1, 0.2), particle(24, 22, 200, 0.1, -0.1, 80)
    up, down = particle(2, 23, 120, 0.3, -0.1), particle(-1, 23, 80, -0.2, -0.2)
    add(event, beams, [top[0], gluon, forward])
    add(event, top[:1], top[1:])
    add(event, top[1:], [bottom, w])
    add(event, [w], [up, down])
    add(event, [bottom], [particle(2212, 1, 90, 0.1, 0.2, 0.938), particle(14, 1, 10, 0.1, 0.2)])
    add(event, [up], [particle(211, 1, 120, 0.3, -0.1, 0.14)])
    add(event, [down], [particle(22, 1, 80, -0.2, -0.2)])
    add(event, [gluon], [particle(-211, 1, 200, -0.5, 3.1, 0.14), particle(130, 1, 90, -0.5, -3.1, 0.5)])
    add(event, [forward], [particle(11, 1, 40, 4.0, 1.0)])
    event.weights = [0.5 + number, 7.0]
    return event


def write(path, events=3, factor=1.0, unit=pyhepmc.Units.GEV, **options):
    with pyhepmc.open(path, "w", **options) as file:
        for number in range(events):
            file.write(make_event(number, factor, unit))
    return str(path)


def jets_of(out, file, **options):
    dataset = make_dataset("hepmc", out, files={"train": [file]}, **{**CUTS, "label": TRUTH} | options)
    return dataset.to_arrow("train").sort_by("source_row").to_pylist(), dataset


def test_known_jets(tmp_path):
    jets, dataset = jets_of(tmp_path / "out", write(tmp_path / "a.hepmc"))
    assert [jet["event_number"] for jet in jets] == [0, 0, 1, 1, 2, 2]
    assert all(a["jet_pt"] > b["jet_pt"] for a, b in zip(jets[::2], jets[1::2]))
    assert sorted(jet["label"] for jet in jets) == ["qcd"] * 3 + ["top"] * 3
    top = next(jet for jet in jets if jet["label"] == "top")
    gluon = next(jet for jet in jets if jet["label"] == "qcd")
    assert [c["pdg_id"] for c in top["constituents"]] == [211, 2212, 22]  # by falling pT, no neutrino
    assert [c["pdg_id"] for c in gluon["constituents"]] == [-211, 130]  # across the azimuth's seam
    assert [c["charge"] for c in gluon["constituents"]] == [-1, 0]
    whole = np.sum([p4(90, 0.1, 0.2, 0.938), p4(120, 0.3, -0.1, 0.14), p4(80, -0.2, -0.2)], axis=0)
    assert top["jet_pt"] == pytest.approx(np.hypot(whole[0], whole[1]), rel=1e-5)
    assert top["jet_mass"] == pytest.approx(np.sqrt(whole[3] ** 2 - whole[:3] @ whole[:3]), rel=1e-4)
    assert [jet["weight"] for jet in jets] == [0.5, 0.5, 1.5, 1.5, 2.5, 2.5]
    assert dataset.manifest.provenance["clustering"].startswith("antikt, R = 0.8")


def test_labels_cuts_units_and_formats(tmp_path):
    file = write(tmp_path / "a.hepmc.gz")
    with_neutrino, _ = jets_of(tmp_path / "all", file, invisible=[], label=ALL, leading=1, max_pt=1000)
    assert len(with_neutrino) == 3
    forward, _ = jets_of(
        tmp_path / "wide", file, max_eta=5, label={"column": "parton", "classes": {"g": 21, "q": [2, 5]}}
    )
    assert sorted(jet["label"] for jet in forward) == ["g"] * 6 + ["q"] * 3
    narrow, _ = jets_of(tmp_path / "narrow", file, match_radius=0.05)
    assert {jet["label"] for jet in narrow} == {"qcd"}  # the decay products are farther away
    chosen, dataset = jets_of(tmp_path / "chosen", file, select="num_constituents == 2 and jet_pt > 100", jets=4)
    assert [jet["label"] for jet in chosen] == ["qcd", "qcd"]
    assert dataset.manifest.dropped == {"not_selected": 2}
    expected = [jet["jet_pt"] for jet in jets_of(tmp_path / "gev", file)[0]]
    mev = write(tmp_path / "mev.hepmc", factor=1e3, unit=pyhepmc.Units.MEV)
    old = write(tmp_path / "old.hepmc2", format="HepMC2")
    wrong = write(tmp_path / "wrong.hepmc", factor=1e3)
    for number, (path, options) in enumerate(((mev, {}), (old, {}), (wrong, {"units": "MeV"}))):
        found, _ = jets_of(tmp_path / f"same{number}", path, **options)
        np.testing.assert_allclose([jet["jet_pt"] for jet in found], expected, rtol=1e-6)


def test_an_events_jets_stay_together(tmp_path):
    write(tmp_path / "a.hepmc", events=60)
    dataset = make_dataset("hepmc", tmp_path / "out", path=str(tmp_path), label=TRUTH, **CUTS)
    events = {split: dataset.to_arrow(split)["event_number"].to_pylist() for split in dataset.splits}
    assert len(events) > 1
    assert sorted(x for numbers in events.values() for x in numbers) == sorted([*range(60), *range(60)])
    assert sum(len(set(numbers)) for numbers in events.values()) == 60


def test_mistakes(tmp_path):
    good = write(tmp_path / "a.hepmc")
    text = (tmp_path / "a.hepmc").read_text()

    def damaged(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    lines = text.splitlines(keepends=True)
    hole = [i for i, line in enumerate(lines) if line.startswith("P ")][-6]
    for file, options, message in (
        (
            damaged("b.hepmc", text[: len(text) // 2].encode()),
            {},
            r"ends without a line END_EVENT_LISTING, it is trunc",
        ),
        (damaged("c.hepmc.gz", gzip.compress(text.encode())[:-40]), {}, r"cannot be read as HepMC, it is truncated"),
        (damaged("d.hepmc", b"px py pz E\n"), {}, r"expected HepMC3 or HepMC2 text"),
        (damaged("e.hepmc", "".join(lines[:hole] + lines[hole + 1 :]).encode()), {}, r"event 3 of 3 cannot be read"),
        (write(tmp_path / "f.hepmc", factor=1e3), {}, r"carry [\d.e+]+ GeV .* write units: MeV"),
        (write(tmp_path / "g.hepmc", unit=pyhepmc.Units.MEV), {}, r"carry [\d.]+ GeV .* write units: GeV"),
        (good, {"min_pt": 5000.0}, r"expected jets, found none that can be used \(none inside the cuts\)"),
        (good, {"max_pt": 20.0}, r"max_pt: expected more than min_pt = 30, found 20"),
        (good, {"label": {"column": "flavour", "classes": {"a": 1}}}, r"there is no 'flavour'; label and select know"),
        (good, {"label": {"column": "resonance", "classes": {"top": 6}}}, r"3 jets have resonance = 0, which is not"),
    ):
        with pytest.raises(DataError, match=message):
            jets_of(tmp_path / "out", file, **options)
