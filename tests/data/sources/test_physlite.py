"""PHYSLITE: links to constituents where they are in the file, tracks of the jets where they are not; MeV."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jetsweep.data import make_dataset
from jetsweep.errors import DataError

LABEL = {"column": "R10TruthLabel_R22v1", "classes": {"qcd": 10, "top": [1, 2]}}
JETS = "AnalysisLargeRJetsAuxDyn:"
LINK = {"m_persKey": 7, "m_persIndex": 0}
# two events with two and one jets; constituent 3 of the first event is in no jet
FLOW = {
    "pt": [[300e3, 100e3, 200e3, 9e3], [500e3, 40e3]], "eta": [[0.1, 0.1, -1.0, 2.0], [0.5, 0.5]],
    "phi": [[0.2, 0.2, 3.1, 0.0], [-2.0, -2.0]], "m": [[0.0, 0.0, 140.0, 0.0], [0.0, 0.0]],
}  # fmt: skip
LINKS = [[[1, 0], [2]], [[0, 1]]]
TRACKS = {
    "phi": [[0.3, -3.1, 1.5], [-2.0]], "theta": [[1.5, 2.4, 1.5], [1.1]],
    "qOverP": [[1e-5, -2e-5, 1e-4], [5e-5]], "d0": [[0.01, 0.02, 0.0], [-0.5]],
    "z0": [[-8.0, -9.0, 4.0], [1.0]], "vz": [[0.5, 0.5, 0.5], [0.0]],
    "definingParametersCovMatrixDiag": [[[0.04, 0.09, 0, 0, 0]] * 3, [[0.01, 0.25, 0, 0, 0]]],
}  # fmt: skip


def write(path, scale=1.0, constituents="UFOCSSK", **changes):
    """An RNTuple, because uproot writes no TTree with lists of lists; ATLAS writes a colon there."""
    jets = {
        "pt": [[420e3, 210e3], [560e3]], "eta": [[0.1, -1.0], [0.5]], "phi": [[0.2, 3.1], [-2.0]],
        "m": [[90e3, 20e3], [172e3]], "R10TruthLabel_R22v1": [[10, 10], [1]],
        "JetConstitScaleMomentum_pt": [[400e3, 200e3], [540e3]],
    }  # fmt: skip
    arrays = {f"{JETS}{name}": ak.Array(x) for name, x in jets.items()}
    for name in ("pt", "m", "JetConstitScaleMomentum_pt"):
        arrays[f"{JETS}{name}"] = arrays[f"{JETS}{name}"] * scale
    links = [[[{**LINK, "m_persIndex": i} for i in jet] for jet in event] for event in LINKS]
    arrays[f"{JETS}constituentLinks"] = ak.Array(links)
    arrays |= {f"{constituents}AuxDyn:{name}": ak.Array(x) for name, x in FLOW.items()}
    arrays |= {f"InDetTrackParticlesAuxDyn:{name}": ak.Array(x) for name, x in TRACKS.items()}
    arrays["PrimaryVerticesAuxDyn:z"] = ak.Array([[-9.0, -7.5], [2.0]])
    arrays["PrimaryVerticesAuxDyn:vertexType"] = ak.Array([[3, 1], [0]])
    arrays["EventInfoAuxDyn:eventNumber"] = np.array([7001, 7002], np.uint64)
    arrays = {name: x for name, x in {**arrays, **changes}.items() if x is not None}
    with uproot.recreate(path) as file:
        file.mkrntuple("CollectionTree", ak.zip(arrays, depth_limit=1))
    return str(path)


def jets_of(out, file, **options):
    dataset = make_dataset("physlite", out, files={"train": [file]}, **{"label": LABEL} | options)
    return dataset.to_arrow("train").sort_by("source_row").to_pylist(), dataset


def test_linked_constituents(tmp_path):
    jets, dataset = jets_of(tmp_path / "out", write(tmp_path / "a.root"))
    pt = [[round(float(np.hypot(c["px"], c["py"])), 2) for c in jet["constituents"]] for jet in jets]
    assert pt == [[300, 100], [200], [500, 40]]
    assert [jet["label"] for jet in jets] == ["qcd", "qcd", "top"]
    assert [jet["jet_pt"] for jet in jets] == [420, 210, 560]
    assert [jet["event_number"] for jet in jets] == [7001, 7001, 7002]
    massive = jets[1]["constituents"][0]
    assert massive["energy"] == pytest.approx(np.hypot(200 * np.cosh(1.0), 0.14), rel=1e-6)
    assert dataset.manifest.provenance["constituents"] == "linked, of UFOCSSK"
    some, _ = jets_of(tmp_path / "some", write(tmp_path / "a.root"), select="jet_pt > 300 and m < 100e3")
    assert [jet["source_row"] for jet in some] == [0]

    cluster = {f"CaloCalTopoClustersAuxDyn:cal{name}": ak.Array(FLOW[name.lower()]) for name in ("Eta", "Phi")}
    energy = ak.Array(FLOW["pt"]) * np.cosh(ak.Array(FLOW["eta"]))
    file = write(tmp_path / "b.root", **cluster, **{"CaloCalTopoClustersAuxDyn:calE": energy})
    jets, _ = jets_of(tmp_path / "clusters", file, container="CaloCalTopoClusters")
    assert jets[2]["constituents"][0]["energy"] == pytest.approx(500 * np.cosh(0.5), rel=1e-6)


def test_tracks_of_jets(tmp_path):
    jets, dataset = jets_of(tmp_path / "out", write(tmp_path / "a.root"), constituents="tracks")
    # across the azimuth's seam the second track belongs to the jet at 3.1; the third is far from both
    assert [len(jet["constituents"]) for jet in jets] == [1, 1, 1]
    first, second, third = (jet["constituents"][0] for jet in jets)
    assert np.hypot(first["px"], first["py"]) == pytest.approx(100 * np.sin(1.5), rel=1e-6)
    assert first["pz"] == pytest.approx(100 * np.cos(1.5), rel=1e-5)
    assert (first["charge"], second["charge"]) == (1, -1)
    assert first["is_charged_hadron"]
    assert not first["is_photon"]
    assert first["dz"] == pytest.approx(-8.0 + 0.5 + 7.5, abs=1e-6)  # to the vertex of type 1
    assert third["dz"] == pytest.approx(1.0 - 2.0)
    assert (second["d0"], second["d0_err"], second["dz_err"]) == pytest.approx((0.02, 0.2, 0.3))
    assert "neutral and thinned particles are missing" in dataset.manifest.provenance["constituents"]
    narrow, _ = jets_of(tmp_path / "narrow", write(tmp_path / "a.root"), constituents="tracks", radius=0.05)
    assert [jet["source_row"] for jet in narrow] == [2]


def test_mistakes(tmp_path):
    file = write(tmp_path / "a.root")
    other = {f"OtherAuxDyn:{name}": ak.Array(x) * (2 if name == "pt" else 1) for name, x in FLOW.items()}
    for path, options, message in (
        (write(tmp_path / "b.root", constituents="Else"), {}, r"not in the file \(no UFOCSSK\); PHYSLITE need not"),
        (write(tmp_path / "c.root", **other), {"container": "Other"}, r"Other add up to 200% of the jets' pT"),
        (write(tmp_path / "d.root", scale=1e-3), {}, r"pT is 0.42.*are the momenta of the file in GeV already"),
        (file, {"collection": "AnalysisJets"}, r"expected the jets AnalysisJets .* found AnalysisLargeRJets$"),
        (file, {"label": {"column": "R10Truth", "classes": {"a": 1}}}, r"'AnalysisLargeRJetsAuxDyn.R10Truth'"),
        (write(tmp_path / "e.root", **{"EventInfoAuxDyn:eventNumber": None}), {}, r"no column 'EventInfoAuxDyn.eventN"),
    ):
        with pytest.raises(DataError, match=message):
            jets_of(tmp_path / "out", path, **options)
