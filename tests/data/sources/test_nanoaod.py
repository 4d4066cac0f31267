"""PFNano: candidates find their jets through the link table, in whatever order the links stand."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jetsweep.data import make_dataset
from jetsweep.errors import DataError

LABEL = {"columns": {"light": "nBHadrons == 0", "b": "nBHadrons > 0"}}
PF = {
    "pt": [[40.0, 30.0, 20.0, 7.0], [], [50.0]], "eta": [[0.1, 0.2, 0.3, 0.0], [], [-1.0]],
    "phi": [[0.1, 0.2, 3.0, 0.0], [], [2.0]], "mass": [[0.14, 0.0, 0.5, 0.0], [], [0.0]],
    "charge": [[1, 0, 0, 0], [], [-1]], "pdgId": [[211, 22, 130, 22], [], [11]],
    "d0": [[0.01, 0.0, 0.0, 0.0], [], [np.inf]], "d0Err": [[0.1, 0.0, 0.0, 0.0], [], [0.2]],
    "dz": [[0.3, 0.0, 0.0, 0.0], [], [0.4]], "dzErr": [[0.1, 0.0, 0.0, 0.0], [], [0.1]],
    "puppiWeight": [[1.0, 0.5, 1.0, 1.0], [], [1.0]],
}  # fmt: skip


def write(path, links=True):
    """Three events with two, no and one jet; the first event's candidate 3 belongs to none, 1 to both."""
    arrays = {"event": [901, 902, 903], "FatJet_pt": [[55.0, 45.0], [], [50.0]], "FatJet_nBHadrons": [[0, 2], [], [1]]}
    arrays |= {f"FatJet_{name}": [[0.1, 0.2], [], [0.3]] for name in ("eta", "phi", "mass")}
    if links:
        arrays |= {f"PFCands_{name}": x for name, x in PF.items()}
        arrays["FatJetPFCands_jetIdx"] = [[1, 0, 1, 0, -1], [], [0]]
        arrays["FatJetPFCands_pFCandsIdx"] = [[2, 0, 1, 1, 3], [], [0]]
    arrays = {name: ak.Array(x) for name, x in arrays.items()}
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: ak.type(x).content for name, x in arrays.items()})
        file["Events"].extend(arrays)
    return str(path)


def constituents(dataset):
    table = dataset.to_arrow("train").sort_by("source_row")
    return table["constituents"].to_pylist(), table


def test_constituents_by_links(tmp_path):
    file = write(tmp_path / "a.root")
    dataset = make_dataset("nanoaod", tmp_path / "out", files={"train": [file]}, label=LABEL)
    jets, table = constituents(dataset)
    assert [[round(float(np.hypot(c["px"], c["py"])), 3) for c in jet] for jet in jets] == [[40, 30], [30, 20], [50]]
    assert [[c["pdg_id"] for c in jet] for jet in jets] == [[211, 22], [22, 130], [11]]
    assert table["label"].to_pylist() == ["light", "b", "b"]
    assert table["jet_pt"].to_pylist() == [55, 45, 50]
    assert table["event_number"].to_pylist() == [901, 901, 903]
    first = jets[0][0]
    assert first["is_charged_hadron"]
    assert first["d0"] == pytest.approx(0.1)  # cm to mm
    assert first["energy"] == pytest.approx(np.hypot(40 * np.cosh(0.1), 0.14), rel=1e-5)
    assert jets[2][0]["d0"] == 0

    weighted = make_dataset(
        "nanoaod", tmp_path / "puppi", files={"train": [file]}, label=LABEL, puppi=True, select="pt > 48", jets=2
    )
    jets, table = constituents(weighted)
    assert [[round(float(np.hypot(c["px"], c["py"])), 3) for c in jet] for jet in jets] == [[40, 15]]
    assert weighted.manifest.dropped == {"not_selected": 1}


def test_mistakes(tmp_path):
    plain, full = write(tmp_path / "plain.root", links=False), write(tmp_path / "full.root")
    for file, changes, message in (
        (plain, {}, r"plain NanoAOD holds no constituents of its jets, expected PFNano"),
        (full, {"label": {"column": "nBHadron", "classes": {"a": 0}}}, r"no column 'FatJet_nBHadron', did you mean"),
        (full, {"label": {"column": "nBHadrons", "classes": {"a": [0, 1]}}}, r"1 jets have nBHadrons = 2, which"),
        (full, {"collection": "Jet"}, r"there is no column 'Jet_pt'"),
        (full, {"select": "open('x')"}, r"the call of open at column 1 is not supported"),
    ):
        with pytest.raises(DataError, match=message):
            make_dataset("nanoaod", tmp_path / "out", **{"path": file, "label": LABEL} | changes)
    with pytest.raises(DataError, match=r"give `path` or `files`"):
        make_dataset("nanoaod", tmp_path / "out", label=LABEL)
