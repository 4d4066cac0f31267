"""Variations of generated jets: what they change, what they leave, and that only seed and jet decide them."""

import numpy as np
import pytest

from jetsweep.data import make_dataset
from jetsweep.data.sources._jets import P4
from jetsweep.data.sources._variations import DetectorVariations, GeneratorVariations, scheme, varied
from jetsweep.data.sources.toy import make_toy_jets
from jetsweep.errors import DataError
from jetsweep.training.systematics import scheme_of

EFFECTS = ("scale_up", "scale_down", "resolution", "loss")
SAMPLES = {f"{kind}_{effect}" for kind in ("charged", "neutral") for effect in EFFECTS}
SIZES = DetectorVariations()


@pytest.fixture(scope="module")
def jets():
    return make_toy_jets(400, np.random.default_rng(1), tracks=True)


def pt(jets):
    return np.hypot(jets.values["px"], jets.values["py"])


def test_toy_jets_are_the_same_with_and_without_and_their_varied_samples_share_events(tmp_path):
    bare = make_dataset("toy", tmp_path / "bare", jets=300, tracks=True)
    dataset = make_dataset("toy", tmp_path / "varied", jets=300, tracks=True, variations=True)
    assert "variations" not in bare.manifest.options
    for split in ("train", "val", "test"):
        table = dataset.to_arrow(split)
        assert table.drop_columns(["event_number"]).equals(bare.to_arrow(split))
    for folder, split in (("syst", "test"), ("syst_val", "val")):
        nominal = dataset.to_pandas(split).set_index("event_number").sort_index()
        names = {name.removeprefix(f"{folder}/") for name in dataset.splits if name.startswith(f"{folder}/")}
        assert names == SAMPLES
        for name in names:
            sample = dataset.to_pandas(f"{folder}/{name}").set_index("event_number").sort_index()
            assert sample[["jet_pt", "jet_mass", "source_row"]].equals(nominal[["jet_pt", "jet_mass", "source_row"]])
            assert (sample["label"].astype(str) == nominal["label"].astype(str)).all()


def test_scale_moves_one_kind_of_constituents_by_its_size(jets):
    charged_N = jets.values["charge"] != 0
    for sample, chosen_N, factor in (
        ("charged_scale_up", charged_N, 1.01),
        ("neutral_scale_down", ~charged_N, 0.97),
    ):
        moved = varied(jets, sample, SIZES, 1)
        for name in P4:
            scaled = np.where(chosen_N, jets.values[name] * factor, jets.values[name]).astype(np.float32)
            assert np.bincount(moved.jet, moved.values[name]) == pytest.approx(np.bincount(jets.jet, scaled), abs=1e-2)
        assert (np.diff(pt(moved))[np.diff(moved.jet) == 0] <= 1e-4).all()
        assert moved.scalars == jets.scalars


def test_resolution_and_losses_have_their_sizes(jets):
    charged_N = jets.values["charge"] != 0
    big = DetectorVariations(charged_resolution=0.2, neutral_loss=0.3)
    smeared = varied(jets, "charged_resolution", big, 1)
    before, after = (np.sort(pt(x)[x.values["charge"] == 0]) for x in (jets, smeared))
    np.testing.assert_array_equal(before, after)
    shift = np.bincount(jets.jet, pt(smeared) - pt(jets)) / np.sqrt(np.bincount(jets.jet, (pt(jets) * charged_N) ** 2))
    assert abs(shift.mean()) < 0.05
    assert shift.std() == pytest.approx(0.2, rel=0.15)
    kept = varied(jets, "neutral_loss", big, 1)
    num_neutral = int((~charged_N).sum())
    assert int((kept.values["charge"] == 0).sum()) / num_neutral == pytest.approx(0.7, abs=4 * 0.46 / num_neutral**0.5)
    assert int((kept.values["charge"] != 0).sum()) == int(charged_N.sum())
    assert set(zip(kept.jet, kept.values["px"])) <= set(zip(jets.jet, jets.values["px"]))


@pytest.mark.parametrize("sample", ["neutral_resolution", "charged_loss"])
def test_a_jet_is_varied_alike_in_whatever_company(jets, sample):
    chosen_B = np.arange(len(jets)) % 3 == 0
    alone, among = (
        varied(jets.take_jets(chosen_B), sample, SIZES, 1),
        varied(jets, sample, SIZES, 1).take_jets(chosen_B),
    )
    assert all(np.array_equal(alone.values[name], among.values[name]) for name in alone.values)
    other = varied(jets.take_jets(chosen_B), sample, SIZES, 2)
    assert not np.array_equal(alone.values["px"], other.values["px"])


def test_sizes_of_zero_leave_a_variation_out_and_mistakes_are_told(tmp_path):
    sizes = {
        "charged_scale": 0,
        "neutral_scale": 0.1,
        "charged_resolution": 0,
        "neutral_resolution": 0,
        "neutral_loss": 0,
    }
    dataset = make_dataset("toy", tmp_path / "x", jets=100, tracks=True, variations=sizes)
    found = scheme_of(dataset)
    assert [(group.name, group.samples) for group in found.groups] == [
        ("energy_scale", ("neutral_scale_up", "neutral_scale_down")),
        ("efficiency", ("charged_loss",)),
    ]
    assert {name for name in dataset.splits if "/" in name} == {
        f"{folder}/{name}" for folder in ("syst", "syst_val") for name in found.paired
    }
    with pytest.raises(DataError, match="variations: expected tracks: true beside it"):
        make_dataset("toy", tmp_path / "y", variations=True)
    with pytest.raises(DataError, match=r"source toy: variations.charged_los: Extra inputs are not permitted"):
        make_dataset("toy", tmp_path / "y", tracks=True, variations={"charged_los": 0.1})
    with pytest.raises(DataError, match=r"variations.charged_loss: Input should be less than 1"):
        make_dataset("toy", tmp_path / "y", tracks=True, variations={"charged_loss": 1.5})


def test_the_scheme_of_a_generator_holds_its_showers_and_scales():
    stated = scheme(GeneratorVariations(showers=("vincia", "dire")), "pythia top-qcd", (550.0, 650.0))
    names = [group["name"] for group in stated["groups"]]
    assert names == ["energy_scale", "resolution", "efficiency", "signal_shower", "background_shower", "scale"]
    assert stated["edges"] == [550.0, 575.0, 600.0, 625.0, 650.0]
    assert [len(envelope) for envelope in stated["groups"][3]["envelopes"]] == [2]
    scales = [[(v["varied"]["replaces"], v["varied"]["weight"]) for v in e] for e in stated["groups"][5]["envelopes"]]
    assert scales == [
        [("signal", 1), ("signal", 2)], [("signal", 3), ("signal", 4)],
        [("background", 1), ("background", 2)], [("background", 3), ("background", 4)],
    ]  # fmt: skip


def test_a_shower_that_pythia_has_no_more_is_told(tmp_path):
    with pytest.raises(DataError, match=r"variations.showers: Pythia has the shower dire up to 8.315, found 8"):
        make_dataset("pythia", tmp_path / "x", jets=10, variations={"showers": ["dire"]})
    assert not (tmp_path / "x").exists()
