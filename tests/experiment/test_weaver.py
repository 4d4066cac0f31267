"""Data files of weaver-core as experiments: from the YAML to a trained step, and one sentence for what has no equal."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jetsweep.cli.data import app
from jetsweep.data import make_dataset
from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.experiment import load_experiment
from jetsweep.experiment._weaver_terms import normal_form
from jetsweep.experiment.weaver import import_weaver
from jetsweep.training import train

layouts_file = Path(__file__).parents[1] / "data" / "sources" / "layouts.py"
spec = importlib.util.spec_from_file_location("source_layouts_weaver", layouts_file)
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)

HEAD = """\
treename: Events
selection: (jet_pt_alias > 100) & (np.abs(ak8_eta) < 9)
new_variables:
  jet_pt_alias: ak8_pt
  cand_mask: ak.ones_like(cand_e)
  cand_pt: np.sqrt(cand_px**2 + cand_py*cand_py)
  lpt: np.log(cand_pt)
  le: np.log(cand_e)
  lptrel: np.log(cand_pt / jet_pt_alias)
  lerel: np.log(cand_e/ak8_energy)
  dr: np.hypot(cand_dphi, cand_deta)
  isTop: is_top == 1
  isQCD: 1 - is_top
inputs:
  pf_points: {length: 32, pad_mode: wrap, vars: [[cand_deta, null], [cand_dphi, null]]}
  pf_features:
    length: 32
    pad_mode: wrap
    vars:
      - [lpt, 1.7, 0.7]
      - [le, 2.0, 0.7]
      - [lptrel, -4.7, 0.7]
      - [lerel, -4.7, 0.7]
      - [dr, 0.2, 4.0]
"""
PID = """\
      - [cand_charge, null]
      - [cand_isChHad, null]
      - [cand_isNeuHad, null]
      - [cand_isGamma, null]
      - [cand_isEl, null]
      - [cand_isMu, null]
"""
DISPLACEMENT = """\
      - [d0, null]
      - [cand_d0err, 0, 1, 0, 1]
      - [dz, null]
      - [cand_dzerr, 0, 1, 0, 1]
"""
TAIL = """\
      - cand_deta
      - cand_dphi
  pf_vectors: {length: 32, pad_mode: wrap, vars: [cand_px, cand_py, cand_pz, cand_e]}
  pf_mask: {length: 32, pad_mode: constant, vars: [cand_mask]}
labels: {type: simple, value: [isQCD, isTop]}
observers: [ak8_pt, ak8_eta, ak8_phi, run_number]
"""
WEIGHTS = """\
weights:
  use_precomputed_weights: false
  reweight_method: flat
  reweight_vars: {ak8_pt: [400, 600, 800, 1200], ak8_msd: [0, 80, 400]}
  reweight_classes: [isQCD, isTop]
  class_weights: [1, 0.5]
  reweight_threshold: 15
"""
KIN = HEAD + TAIL + WEIGHTS


def translate(tmp_path, text, place=None):
    path = tmp_path / "my data.yaml"
    path.write_text(text)
    return import_weaver(path, place or {"path": "jets.root"})


def swapped(old, new, text=KIN):
    assert old in text
    return text.replace(old, new)


def test_a_file_with_kinematics_and_reweighting(tmp_path):
    imported = translate(tmp_path, KIN)
    tree = imported.tree
    source = tree["data"]["source"]
    assert tree["name"] == "my-data"
    assert tree["model"] == {"name": "part", "features": "kin", "jet_axis": "stored"}
    assert tree["data"]["max_constituents"] == 32
    assert source["tree"] == "Events"
    assert source["constituents"] == {"px": "cand_px", "py": "cand_py", "pz": "cand_pz", "energy": "cand_e"}
    assert source["jet"] == {
        "jet_pt": "ak8_pt", "jet_energy": "ak8_energy", "jet_eta": "ak8_eta", "jet_phi": "ak8_phi",
        "run_number": "run_number", "ak8_msd": "ak8_msd",
    }  # fmt: skip
    assert source["label"] == {"columns": {"isQCD": "1 - is_top", "isTop": "is_top == 1"}}
    assert source["select"] == "(ak8_pt > 100) & (np.abs(ak8_eta) < 9)"
    assert tree["data"]["reweight"] == {
        "to": "flat",
        "variables": {"jet_pt": [400, 600, 800, 1200], "ak8_msd": [0, 80, 400]},
        "method": "sample",
        "percentile": 15,
        "class_weights": {"isTop": 0.5},
    }


@pytest.mark.parametrize(("name", "more"), [("kinpid", PID), ("full", PID + DISPLACEMENT)])
def test_feature_sets_are_told_apart(tmp_path, name, more):
    head = swapped("  isTop:", "  d0: np.tanh(cand_d0val)\n  dz: np.tanh(cand_dzval)\n  isTop:", HEAD)
    tree = translate(tmp_path, head + more + TAIL).tree
    assert tree["model"]["features"] == name
    constituents = tree["data"]["source"]["constituents"]
    assert constituents["is_electron"] == "cand_isEl"
    assert constituents["charge"] == "cand_charge"
    assert constituents.get("d0_err") == ("cand_d0err" if name == "full" else None)
    assert constituents.get("dz") == ("cand_dzval" if name == "full" else None)


def test_graded_flags_are_those_of_the_quark_gluon_set(tmp_path):
    flags = (
        "  ch: 0.5*(np.abs(pid)==321) + (abs(pid)==211) + (np.abs(pid)==2212)*0.2\n"
        "  nh: (np.abs(pid)==130) + (np.abs(pid)==2112)*0.2\n  isTop:"
    )
    text = swapped("  isTop:", flags, HEAD) + PID.replace("cand_isChHad", "ch").replace("cand_isNeuHad", "nh") + TAIL
    tree = translate(tmp_path, text).tree
    assert tree["model"]["features"] == "kinpidplus"
    assert tree["data"]["source"]["constituents"]["pdg_id"] == "pid"


def test_other_kinds_of_weights(tmp_path):
    ref = swapped("reweight_method: flat", "reweight_method: ref\n  reweight_discard_under_overflow: false")
    reweight = translate(tmp_path, ref).tree["data"]["reweight"]
    assert reweight["to"] == "isQCD"
    assert reweight["variables"]["jet_pt"] == [-1e30, 600, 800, 1e30]
    stored = HEAD + TAIL + "weights: {use_precomputed_weights: true, weight_branches: [w_gen, 1 / w_sel]}\n"
    tree = translate(tmp_path, stored).tree
    assert tree["data"]["source"]["weight"] == "(w_gen) * (1 / w_sel)"
    assert "reweight" not in tree["data"]
    one_of_two = swapped("[isQCD, isTop]\n  class_weights: [1, 0.5]", "[isTop]\n  reweight_basewgt: w_gen")
    tree = translate(tmp_path, one_of_two).tree
    assert tree["data"]["reweight"]["class_weights"] == {"isQCD": 0}
    assert tree["data"]["source"]["weight"] == "w_gen"


def test_a_file_of_automatic_standardisation_brings_its_parameters(tmp_path):
    params = "preprocess:\n  method: auto\n  params:\n"
    for name, scaling in {"lpt": "{center: 1.7, scale: 0.7, min: -5, max: 5}", "cand_deta": "{center: null}"}.items():
        params += f"    {name}: {scaling}\n"
    text = swapped("[lpt, 1.7, 0.7]", "lpt").replace("- cand_dphi", "- [cand_dphi, null]")
    vectors = "vars: [[cand_px, null], [cand_py, null], [cand_pz, null], [cand_e, null]]"
    text = text.replace("vars: [cand_px, cand_py, cand_pz, cand_e]", vectors)
    assert translate(tmp_path, text + params).tree["model"]["features"] == "kin"
    with pytest.raises(
        ExperimentError, match=r"yaml:20: inputs\.pf_features\.vars\[0\]: preprocess\.method auto is not"
    ):
        translate(tmp_path, text + "preprocess: {method: auto}\n")


REFUSED = {
    "section": (lambda t: t + "bucketing: {var: n, bins: [0, 9]}\n", r"yaml:38: bucketing: is not supported"),
    "call": (
        lambda t: swapped("np.abs(ak8_eta) < 9", "ak.num(cand_e) > 3"),
        r"yaml:2: selection: .*: the call of ak\.num at column 25 is not supported",
    ),
    "attack": (
        lambda t: swapped("np.log(cand_e)", "__import__('os').system('true')"),
        r"yaml:8: new_variables\.le: .*the call of __import__\('os'\)\.system at column 1 is not supported",
    ),
    "circle": (
        lambda t: swapped("lpt: np.log(cand_pt)", "lpt: np.log(lpt)"),
        r"yaml:7: new_variables\.lpt: expected a definition by other variables, found lpt inside itself",
    ),
    "collection": (lambda t: swapped("  pf_mask:", "  sv_mask:"), r"yaml:28: inputs\.sv_mask: expected one collection"),
    "lengths": (lambda t: swapped("vectors: {length: 32", "vectors: {length: 16"), r"pf_vectors\.length: .* found 16"),
    "feature": (
        lambda t: swapped("np.log(cand_e)\n", "np.exp(cand_e)\n"),
        r"yaml:21: inputs\.pf_features\.vars\[1\]: expected a feature of kin, .* found 'np\.exp\(cand_e\)'",
    ),
    "scaling": (
        lambda t: swapped("[dr, 0.2, 4.0]", "[dr, 0.2, 3.0]"),
        r"yaml:24: .*dr: expected centre, scale, min and max \[0\.2, 4\.0, -5, 5\], found \[0\.2, 3\.0, -5, 5\]",
    ),
    "incomplete": (
        lambda t: swapped("      - [le, 2.0, 0.7]\n", ""),
        r"pf_features: expected one of the feature sets .*; next to kin, it lacks log_energy",
    ),
    "padding": (lambda t: swapped("[le, 2.0, 0.7]", "[le, 2.0, 0.7, -5, 5, 1]"), r"expected 0 as the value of padding"),
    "vectors": (
        lambda t: swapped("cand_pz, cand_e]", "lpt, cand_e]"),
        r"pf_vectors\.vars\[2\]: expected the branch of pz, found the formula 'np\.log\(np\.sqrt",
    ),
    "points": (lambda t: swapped("[[cand_deta, null], [", "[[lpt, null], ["), r"pf_points: expected the points"),
    "labels": (lambda t: swapped("type: simple", "type: custom"), r"yaml:29: labels\.type: expected simple, .*custom"),
    "observer": (lambda t: swapped("run_number]", "lpt]"), r"observers\[3\]: expected the name of a branch, found the"),
    "weights": (lambda t: swapped("reweight_threshold", "threshold"), r"weights\.threshold: is not supported"),
    "method": (lambda t: swapped("method: flat", "method: steep"), r"yaml:33: .*expected flat or ref, found 'steep'"),
    "class": (lambda t: swapped("classes: [isQCD, isTop]", "classes: [isQCD, isW]"), r"classes\[1\]: .*found 'isW'"),
    "shares": (lambda t: swapped("[1, 0.5]", "[1]"), r"weights: expected reweight_classes, and for each a number in"),
    "kind": (
        lambda t: swapped("observers: [", "observers: fj_pt\nmonitor_variables: ["),
        r"yaml:30: observers: expected a list, found 'fj_pt'",
    ),
    "edges": (lambda t: swapped("ak8_msd: [0, 80, 400]", "ak8_msd: 80"), r"ak8_msd: expected a list of bin edges"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_equal_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(ExperimentError, match=message):
        translate(tmp_path, change(KIN))


def test_no_weaver_file_at_all_is_refused(tmp_path):
    with pytest.raises(ExperimentError, match=r"inputs: expected a group \*_features, found none"):
        translate(tmp_path, "treename: tree\n")


def events(path, size=300):
    jets = layouts.toy(size)
    values = {ours: jets.values[name] for ours, name in
              {"cand_px": "px", "cand_py": "py", "cand_pz": "pz", "cand_e": "energy"}.items()}  # fmt: skip
    lists = {name: np.split(x.astype(np.float32), jets.offsets[1:-1]) for name, x in values.items()}
    energy = np.hypot(jets.scalars["jet_mass"], jets.scalars["jet_pt"] * np.cosh(jets.scalars["jet_eta"]))
    flat = {f"ak8_{name}": jets.scalars[f"jet_{name}"] for name in ("pt", "eta", "phi")}
    flat |= {"ak8_energy": energy, "ak8_msd": jets.scalars["jet_mass"] * 0.9}
    flat = {name: x.astype(np.float32) for name, x in flat.items()}
    flat |= {"is_top": jets.label.astype(np.int32), "run_number": np.arange(size, dtype=np.int32)}
    layouts.write_jetclass_root(path, lists | flat)
    return jets


def test_from_the_file_to_a_trained_step(tmp_path):
    config, root, out = tmp_path / "weaver.yaml", tmp_path / "jets.root", tmp_path / "mine.yaml"
    jets = events(root)
    config.write_text(swapped("treename: Events", "treename: tree"))
    result = CliRunner().invoke(app, ["import-weaver", str(config), str(root), "--out", str(out), "--model", "pfn"])
    assert result.exit_code == 0, result.output
    assert "pad_mode has no equal" in result.output
    assert out.read_text().startswith("# From weaver.yaml of weaver-core.\n# pad_mode")
    overrides = ["model.phi_sizes=[8]", "model.f_sizes=[8]", "training.epochs=1", "training.steps_per_epoch=1",
                 "training.batch_size=64"]  # fmt: skip
    experiment = load_experiment(out, overrides=overrides).example
    dataset = make_dataset(experiment.data.source, tmp_path / "made")
    assert sum(dataset.num_rows(split) for split in dataset.splits) == len(jets)
    table = dataset.to_pandas("train")
    assert np.array_equal(table["label"] == "isTop", jets.label[table["source_row"]] == 1)
    trained = train(experiment.trial_spec(), tmp_path / "trial", tmp_path / "data")
    assert trained.stopped_because == "budget"
    assert (tmp_path / "trial" / "reweighting.json").exists()
    again = CliRunner().invoke(app, ["import-weaver", str(config), str(root), "--out", str(out)])
    assert isinstance(again.exception, JetsweepError)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("np.hypot(x, y)", "sqrt(y*y + x**2)", True),
        ("a + (b + c)", "c + b + a", True),
        ("2*x*y", "y*2.0*x", True),
        ("a - b", "b - a", False),
        ("a / b", "b / a", False),
        ("sqrt(x**2 - y**2)", "hypot(x, y)", False),
        ("x > 1", "x >= 1", False),
    ],
)
def test_formulas_are_compared_by_meaning(a, b, same):
    from jetsweep.data.sources._expressions import ColumnExpression

    assert (normal_form(ColumnExpression(a).tree) == normal_form(ColumnExpression(b).tree)) is same
