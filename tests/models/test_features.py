import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jetsweep.data.batch import Batch, Ragged
from jetsweep.models._features import COLUMNS, HIGH_LEVEL_NAMES, P4, Preprocessing
from jetsweep.models._statistics import medians_and_spreads
from jetsweep.testing.toys import toy_four_vectors

# (pT in GeV, eta, phi) of three massless constituents, and what the published definitions give for them
GOLDEN = [(100.0, 0.5, 0.1), (50.0, 0.6, -0.1), (10.0, 0.3, 0.3)]
GOLDEN_KIN = [
    [2.033619, 1.907699, 2.965374, 2.953015, -0.579987, -0.022921, 0.05],
    [1.548416, 1.457511, 2.480171, 2.502827, -0.125419, 0.077079, -0.15],
    [0.421810, 0.242848, 1.353565, 1.288164, 0.539814, -0.222921, 0.25],
]
GOLDEN_ATLAS = [
    [0, 0, 11.512925, 11.633040, -0.470004, -0.481407, 0],
    [0, -0.223607, 10.819778, 10.989914, -1.163151, -1.124533, 0.223607],
    [0.089443, 0.268328, 9.210340, 9.254681, -2.772589, -2.859765, 0.282843],
]

FLIPPED = ["aligned-flip", "aligned-p4-flip", "aligned-p4-pt-flip"]


def p4_of(jets):
    rows = [[pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta), pt * math.cosh(eta)] for pt, eta, phi in jets]
    return torch.tensor(rows, dtype=torch.float64)


def batch_of(*jets, columns=("px", "py", "pz", "energy"), weight=None):
    values = torch.cat([p4_of(jet) for jet in jets]) if jets else torch.zeros(0, 4)
    extra = torch.zeros(len(values), len(columns) - 4, dtype=torch.float64)
    offsets = torch.tensor([0, *np.cumsum([len(jet) for jet in jets])])
    group = Ragged(torch.cat([values, extra], dim=1).float(), offsets, columns)
    return Batch({"constituents": group}, {}, {}, weight, torch.arange(len(jets)))


def kin(jet, **options):
    return Preprocessing("kin", ("features", "mask", "p4", "points"), 5, **options)(batch_of(jet))


def test_golden_jet_of_the_seven_kinematic_inputs():
    out = kin(GOLDEN)
    torch.testing.assert_close(out["features"][0, :3], torch.tensor(GOLDEN_KIN), atol=3e-6, rtol=0)
    torch.testing.assert_close(out["points"][0, :3], torch.tensor(GOLDEN_KIN)[:, 5:], atol=1e-6, rtol=0)
    assert out["features"][0, 3:].abs().max() == 0
    assert out["mask"].tolist() == [[True, True, True, False, False]]


def test_golden_jet_of_the_seven_atlas_inputs():
    prep = Preprocessing("atlas7", ("features", "mask"), 128)
    assert prep.max_constituents == 80
    raw = prep._raw_rows(batch_of(GOLDEN))[0]
    np.testing.assert_allclose(raw, GOLDEN_ATLAS, atol=2e-6)


@pytest.mark.parametrize("shift", [0.7, 3.0])
def test_atlas_angles_ignore_rotations_about_the_beam_and_mirrors(shift):
    prep = Preprocessing("atlas7", ("features", "mask"), 10)
    plain = prep._raw_rows(batch_of(GOLDEN))[0][:, [0, 1, 2, 6]]
    turned = prep._raw_rows(batch_of([(pt, eta, phi + shift) for pt, eta, phi in GOLDEN]))[0][:, [0, 1, 2, 6]]
    mirrored = prep._raw_rows(batch_of([(pt, -eta, phi) for pt, eta, phi in GOLDEN]))[0][:, [0, 1, 2, 6]]
    torch.testing.assert_close(turned, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(mirrored, plain, atol=1e-5, rtol=0)


def test_golden_jet_of_the_energy_flow_inputs():
    out = Preprocessing("energyflow", ("z", "angles", "mask"), 3)(batch_of(GOLDEN))
    torch.testing.assert_close(out["z"][0], torch.tensor([0.625, 0.3125, 0.0625]))
    expected = torch.tensor([[-0.01875, 0.05], [0.08125, -0.15], [-0.21875, 0.25]])
    torch.testing.assert_close(out["angles"][0], expected, atol=1e-6, rtol=0)


def test_golden_jet_of_the_inputs_of_jet_images():
    out = Preprocessing("aligned", ("z", "angles", "mask", "features"), 200)(batch_of(GOLDEN))
    torch.testing.assert_close(out["z"][0, :3], torch.tensor([0.625, 0.3125, 0.0625]))
    torch.testing.assert_close(out["angles"][0, :3], torch.tensor(GOLDEN_ATLAS)[:, :2], atol=1e-6, rtol=0)
    assert out["angles"].shape == (1, 200, 2)
    torch.testing.assert_close(out["features"], torch.cat([out["z"][..., None], out["angles"]], dim=-1))


def test_a_jet_with_one_or_two_constituents_is_aligned_as_far_as_it_goes():
    out = Preprocessing("aligned", ("angles", "mask"), 5)(batch_of(GOLDEN[:1], GOLDEN[:2]))["angles"]
    assert out[0].abs().max() == 0
    torch.testing.assert_close(out[1, :2], torch.tensor([[0.0, 0.0], [0.0, -0.223607]]), atol=1e-6, rtol=0)
    assert out[1, 2:].abs().max() == 0


@pytest.mark.parametrize(
    "features",
    ["kin", "kinpid", "kinpidplus", "full", "energyflow", "atlas7", "aligned", "aligned-p4", *FLIPPED],
)
def test_empty_slots_may_hold_anything(features):
    columns = COLUMNS[features]
    prep = Preprocessing(features, ("features", "mask"), 6)
    x = torch.cat([p4_of(GOLDEN).float(), torch.zeros(3, len(columns) - 4)], dim=1)[None]
    mask = torch.ones(1, 3, dtype=torch.bool)
    plain = prep.from_padded(x[..., :4], mask, x[..., 4:])["features"]
    for junk in (1e4, float("nan"), float("inf")):
        wide = torch.nn.functional.pad(x, (0, 0, 0, 3), value=junk)
        out = prep.from_padded(wide[..., :4], torch.nn.functional.pad(mask, (0, 3)), wide[..., 4:])["features"]
        torch.testing.assert_close(out[:, :3], plain)
        assert out[:, 3:].abs().max() == 0


@pytest.mark.parametrize("features", ["kin", "energyflow", "atlas7", "aligned", "aligned-p4-pt", *FLIPPED])
@pytest.mark.parametrize("jet", [[], GOLDEN[:1], GOLDEN[:2], [(50.0, 0.2, 0.1)] * 4, [(1e-3, 12.0, 0.0)]])
def test_odd_jets_stay_finite(features, jet):
    out = Preprocessing(features, ("features", "mask"), 4)(batch_of(jet, GOLDEN))
    assert torch.isfinite(out["features"]).all()


def test_a_jet_does_not_see_its_neighbours():
    prep = Preprocessing("kin", ("features", "mask"), 5)
    together = prep(batch_of(GOLDEN[:2], GOLDEN))["features"]
    torch.testing.assert_close(together[:1], prep(batch_of(GOLDEN[:2]))["features"])


def test_backward_jets_are_seen_from_their_own_side():
    mirrored = [(pt, -eta, phi) for pt, eta, phi in GOLDEN]
    torch.testing.assert_close(kin(mirrored)["features"], kin(GOLDEN)["features"], atol=2e-6, rtol=0)


def test_statistics_standardise_the_weighted_training_jets():
    rng = np.random.default_rng(2)
    table = torch.tensor(rng.normal(5.0, 3.0, (200, 15)), dtype=torch.float32)
    weight = torch.tensor(rng.uniform(0.1, 2.0, 200), dtype=torch.float32)

    def part(rows):
        scalars = {name: table[rows, i] for i, name in enumerate(HIGH_LEVEL_NAMES)}
        return Batch({}, scalars, {}, weight[rows], torch.arange(len(table[rows])))

    prep = Preprocessing("high-level", ("jet_features",), 1)
    assert prep.scalar_columns == HIGH_LEVEL_NAMES
    assert prep.constituent_columns == ()
    prep.fit([part(slice(0, 70)), part(slice(70, 200))])
    x = prep(part(slice(0, 200)))["jet_features"].double()
    w = weight.double()[:, None]
    torch.testing.assert_close((w * x).sum(0) / w.sum(), torch.zeros(15, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close((w * x**2).sum(0) / w.sum(), torch.ones(15, dtype=torch.float64), atol=1e-4, rtol=0)


def test_robust_scaling_of_jet_variables_ignores_tails_and_weights():
    rng = np.random.default_rng(2)
    table = torch.tensor(rng.normal(5.0, 3.0, (4000, 2)), dtype=torch.float32)
    table[::10] += 1e6
    names = ("mass", "eta")

    def part(rows):
        scalars = {name: table[rows, i] for i, name in enumerate(names)}
        return Batch({}, scalars, {}, torch.rand(len(table[rows])), torch.arange(len(table[rows])))

    prep = Preprocessing("scalars", ("jet_features", "rows"), 1, scalars=names, jet_scaling="robust")
    prep.fit([part(slice(0, 700)), part(slice(700, 4000))])
    found = prep(part(slice(0, 4000)))
    low, median, high = torch.quantile(found["jet_features"], torch.tensor([0.25, 0.5, 0.75]), dim=0)
    torch.testing.assert_close(median, torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(high - low, torch.ones(2), atol=1e-4, rtol=0)
    assert prep.std.max() < 10
    assert torch.equal(found["rows"], torch.arange(4000))


def test_wrong_sets_are_refused():
    with pytest.raises(ValueError, match=r"expected one of the feature sets kin, .* found 'kim'"):
        Preprocessing("kim", ("features",), 5)
    with pytest.raises(ValueError, match="'high-level' does not provide"):
        Preprocessing("high-level", ("features", "mask"), 5)
    with pytest.raises(ValueError, match="'kin' does not provide"):
        Preprocessing("kin", ("jet_features",), 5)


def test_padded_inputs_compile_without_graph_breaks():
    prep = Preprocessing("kin", ("features", "mask", "p4", "points"), 5)
    compiled = torch.compile(prep.from_padded, fullgraph=True, backend="eager")
    p4, mask = p4_of(GOLDEN).float()[None], torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(compiled(p4, mask)["features"], prep.from_padded(p4, mask)["features"])


def of_toys(features, mirrors=(1.0, 1.0), num_slots=12):
    """Features in float64 of toy jets, mirrored in eta and in phi, and their filled slots."""
    p4, mask, _ = toy_four_vectors(200, num_slots, seed=4)
    source = torch.Generator().manual_seed(5)
    masses = torch.rand(p4.shape[:2], generator=source, dtype=torch.float64)
    p4 = p4.double()
    p4[..., 3] = torch.where(mask, (p4[..., :3].square().sum(dim=-1) + masses**2).sqrt(), 0.0)
    p4[..., 2] *= mirrors[0]
    p4[..., 1] *= mirrors[1]
    return Preprocessing(features, ("features", "mask"), num_slots).from_padded(p4, mask)["features"], mask


@pytest.mark.parametrize("features", FLIPPED)
@pytest.mark.parametrize("mirrors", [(-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
def test_mirror_images_are_equal_after_the_flip(features, mirrors):
    plain, mask = of_toys(features)
    assert mask.sum(dim=1).min() == 1
    torch.testing.assert_close(of_toys(features, mirrors)[0], plain, rtol=0, atol=1e-9)
    if features != "aligned-flip":  # whose other form flips by the third constituent
        unflipped = features.removesuffix("-flip")
        differs = (of_toys(unflipped, mirrors)[0] - of_toys(unflipped)[0]).abs().amax(dim=(1, 2)) > 1e-6
        assert (differs.float().mean() > 0.8) == (mirrors[0] != mirrors[1])


@pytest.mark.parametrize("features", FLIPPED)
def test_the_flip_mirrors_whole_jets_and_nothing_else(features):
    (flipped, mask), (plain, _) = of_toys(features), of_toys(features.removesuffix("-flip"))
    column = 1 if features == "aligned-flip" else 3
    others = [i for i in range(flipped.shape[2]) if i != column]
    assert torch.equal(flipped[..., others], plain[..., others])
    sign = torch.where((flipped[..., column] == plain[..., column]).all(dim=1), 1.0, -1.0)
    assert torch.equal(flipped[..., column], sign[:, None] * plain[..., column])
    assert 20 < (sign < 0).sum() < 180
    assert (flipped[~mask] == 0).all()
    # energies are in the first column, momentum fractions for aligned-flip, whose first two are on the axis
    skipped = 2 if features == "aligned-flip" else 0
    side = (flipped[:, skipped:, 0] * flipped[:, skipped:, column].sign()).sum(dim=1)
    assert (side >= 0).all()


@pytest.mark.parametrize("features", ["aligned-p4", "aligned-p4-pt", "aligned-p4-flip"])
def test_aligned_momenta_are_scaled_slot_by_slot_without_padding(features):
    preprocessing = Preprocessing(features, ("features", "mask"), 8)
    p4, mask, _ = toy_four_vectors(400, 8, seed=3, min_constituents=2)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), mask.sum(dim=1).cumsum(0)])
    group = Ragged(p4[mask], offsets, P4)
    batch = Batch({"constituents": group}, {}, {}, None, torch.arange(400))
    preprocessing.fit([batch])
    found = preprocessing(batch)["features"]
    assert (found[~mask] == 0).all()
    for slot in range(8):
        here = found[mask[:, slot], slot]
        low, median, high = torch.quantile(here, torch.tensor([0.25, 0.5, 0.75]), dim=0)
        torch.testing.assert_close(median, torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(high - low, torch.ones(4), atol=1e-4, rtol=0)
    wide_p4, wide_mask = F.pad(p4, (0, 0, 0, 5)), F.pad(mask, (0, 5))
    wide = preprocessing.from_padded(wide_p4, wide_mask)["features"]
    torch.testing.assert_close(wide[:, :8], found)
    narrow = preprocessing.from_padded(p4[:1, :2], mask[:1, :2])["features"]
    assert narrow.shape == (1, 2, 4)


def test_quartiles_of_many_jets_are_those_of_jets_spread_over_all():
    """Jets in ascending order: the first ones alone would have another median. A slot that is hardly filled borrows."""
    x = torch.arange(5000.0)[:, None, None].expand(-1, 2, 1)
    mask = torch.ones(5000, 2, dtype=torch.bool)
    mask[:, 1] = torch.arange(5000) < 5
    batches = [(x[i : i + 700], mask[i : i + 700]) for i in range(0, 5000, 700)]
    median, spread = medians_and_spreads(batches, 2, 1, most_jets=500)
    assert median[0].item() == pytest.approx(2500, abs=10)
    assert spread[0].item() == pytest.approx(2500, abs=20)
    assert torch.equal(median[1], median[0])
    assert torch.equal(spread[1], spread[0])
