"""From four-vectors to network inputs: tensor code on the device, part of the model graph.

Feature sets (`features` of a model's config):

======================  ==================================================================================
kin, kinpid, full       the seven, thirteen and seventeen inputs of the ParticleNet and ParT papers
                        (arXiv:1902.08570, arXiv:2202.03772) with their fixed centres and scales
kinpidplus              kinpid with the graded charged- and neutral-hadron flags of the quark-gluon set
tracks                  full with the jet's (ln pT, eta) on every constituent; charged constituents are tracks, and
                        all of them a second stream of flow objects (GN2X, ATL-PHYS-PUB-2023-021)
energyflow              z = pT / sum pT and (rapidity, phi) about the pT-weighted mean (arXiv:1810.05165)
atlas7                  centred, rotated and flipped angles with logarithms of pT and energy
                        (arXiv:2407.20127), first 80 constituents, standardised on the training split
aligned-p4              four-momenta (E, px, py, pz) of aligned jets (arXiv:2007.01850), less the median of their
                        slot and over its interquartile range on the training split
aligned-p4-pt           the same of momenta over the jet's pT
aligned                 z = pT / sum pT and the angles of atlas7, of all constituents: what jet images are made of
aligned…-flip           the three sets before, mirrored so that the half of the jet with more energy has positive pz
                        (with more pT has positive eta' instead of the third constituent), after the flips of
                        arXiv:1803.00107
high-level              the fifteen jet variables of arXiv:2407.20127, scaled on the training split
scalars                 stored scalars that the model names, scaled on the training split
lund2 … lund5           two to five coordinates of each Cambridge/Aachen declustering, linked as a tree
                        (arXiv:2012.08526); the loader clusters
======================  ==================================================================================
"""

# Shapes: B jets, P padded slots, F features, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jetsweep.data.batch import Batch
from jetsweep.data.derived import lund_group_name
from jetsweep.models._aligned import aligned_angles, aligned_momenta, atlas7, clamped_log
from jetsweep.models._base import JetScaling
from jetsweep.models._lund import LUND_FEATURES, lund_group, lund_inputs
from jetsweep.models._statistics import mean_and_std, medians_and_spreads
from jetsweep.physics import fourvectors as kinematics
from jetsweep.physics.high_level import HIGH_LEVEL_NAMES
from jetsweep.physics.lund import UNCUT, LundCuts

P4 = ("px", "py", "pz", "energy")
PID = ("charge", "is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
DISPLACEMENT = ("d0", "d0_err", "dz", "dz_err")
COLUMNS: dict[str, tuple[str, ...]] = {
    "kin": P4,
    "kinpid": P4 + PID,
    "kinpidplus": (*P4, *PID, "pdg_id"),
    "full": P4 + PID + DISPLACEMENT,
    "tracks": P4 + PID + DISPLACEMENT,
    "energyflow": P4,
    "atlas7": P4,
    "aligned": P4,
    "aligned-p4": P4,
    "aligned-p4-pt": P4,
    "aligned-flip": P4,
    "aligned-p4-flip": P4,
    "aligned-p4-pt-flip": P4,
    "high-level": (),
    "scalars": (),
} | dict.fromkeys(LUND_FEATURES, ())
"""Constituent columns that each feature set reads."""

NUM_FEATURES = {
    "kin": 7,
    "kinpid": 13,
    "kinpidplus": 13,
    "full": 17,
    "tracks": 19,
    "energyflow": 3,
    "atlas7": 7,
    "aligned": 3,
    "aligned-p4": 4,
    "aligned-p4-pt": 4,
    "aligned-flip": 3,
    "aligned-p4-flip": 4,
    "aligned-p4-pt-flip": 4,
    "high-level": 15,
}
NUM_FEATURES |= {name: len(columns) for name, columns in LUND_FEATURES.items()}
ATLAS_CONSTITUENTS = 80
FLIP = "-flip"
"""Ends the name of an aligned feature set that is mirrored by the side of more energy."""
BY_SLOT = ("aligned-p4", "aligned-p4-pt", "aligned-p4-flip", "aligned-p4-pt-flip")
"""Feature sets whose every slot is scaled on its own."""
JETS_FOR_QUARTILES = 100_000
HIGH_LEVEL_DIVISORS = {"split12": 1e3, "split23": 1e3, "ecf1": 1e3, "qw": 1e3, "ecf2": 1e6, "ecf3": 1e9}
"""GeV, GeV^2 and GeV^3 to TeV, TeV^2 and TeV^3, as the published networks scale their inputs."""


class Preprocessing(nn.Module):
    """Pads a batch and derives what a network asks for.

    Parameters
    ----------
    features : str
        One of the feature sets above.
    inputs : tuple of str
        Names of the tensors the network wants: ``features`` (B, P, F), ``mask`` (B, P), ``p4`` (B, P, 4) GeV,
        ``points`` (B, P, 2), ``z`` (B, P), ``angles`` (B, P, 2), ``jet_features`` (B, F), ``track_mask`` (B, P),
        ``flow`` (B, P, 6), ``neighbours`` (B, P, 3).
    max_constituents : int
        Number of slots P; constituents beyond are cut.
    jet_axis : "sum" or "stored"
        Whether jet pT, energy and axis are those of the constituents' sum or of the stored jet scalars (JetClass).
    scalars : tuple of str
        Names of what the set ``scalars`` consists of; other sets have none.
    jet_scaling : "standard" or "robust"
        Of variables of the jet: mean and standard deviation, or median and interquartile range.
    lund_cuts : LundCuts
        Of the sets ``lund2`` to ``lund5``.

    Raises
    ------
    ValueError
        If there is no such feature set, or a network asks for a tensor that the set does not have.
    """

    def __init__(
        self,
        features: str,
        inputs: tuple[str, ...],
        max_constituents: int,
        jet_axis: str = "sum",
        scalars: tuple[str, ...] = (),
        jet_scaling: JetScaling = "standard",
        lund_cuts: LundCuts = UNCUT,
    ) -> None:
        super().__init__()
        if features not in COLUMNS:
            raise ValueError(f"expected one of the feature sets {', '.join(COLUMNS)}, found {features!r}")
        self.of_the_jet = HIGH_LEVEL_NAMES if features == "high-level" else scalars if features == "scalars" else ()
        is_tree = features in LUND_FEATURES
        lacks_tracks = "track_mask" in inputs and features != "tracks"
        if bool(self.of_the_jet) != ("jet_features" in inputs) or is_tree != ("neighbours" in inputs) or lacks_tracks:
            raise ValueError(
                f"the feature set {features!r} does not provide what the network asks for: {', '.join(inputs)}"
            )
        self.features, self.inputs, self.jet_axis, self.jet_scaling = features, tuple(inputs), jet_axis, jet_scaling
        self.lund_cuts = lund_cuts
        self.max_constituents = min(max_constituents, ATLAS_CONSTITUENTS) if features == "atlas7" else max_constituents
        self.num_features = len(self.of_the_jet) or NUM_FEATURES[features]
        self.needs_statistics = features in ("atlas7", *BY_SLOT) or bool(self.of_the_jet)
        shape = (self.max_constituents, self.num_features) if features in BY_SLOT else (self.num_features,)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self.mean: Tensor
        self.std: Tensor
        divided = HIGH_LEVEL_DIVISORS if features == "high-level" else {}
        divisors = [divided.get(name, 1.0) for name in self.of_the_jet]
        self.register_buffer("divisors", torch.tensor(divisors), persistent=False)
        self.divisors: Tensor

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        """Children of `constituents` that a batch must carry; empty where none are needed."""
        return COLUMNS[self.features]

    @property
    def group_columns(self) -> dict[str, tuple[str, ...]]:
        """Groups beside `constituents` that a batch must carry, with the children that are named."""
        return {lund_group_name(self.lund_cuts): ()} if self.features in LUND_FEATURES else {}

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        """Scalars that a batch must carry."""
        if self.of_the_jet:
            return self.of_the_jet
        return ("jet_pt", "jet_eta", "jet_phi", "jet_energy") if self.jet_axis == "stored" else ()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Tensors by name, exactly those of `inputs`."""
        rows = {"rows": batch.rows} if "rows" in self.inputs else {}
        if self.of_the_jet:
            return {"jet_features": self._standardise(self._jet_features(batch))} | rows
        if self.features in LUND_FEATURES:
            group = batch.groups[lund_group_name(self.lund_cuts)]
            return lund_inputs(self.features, group, self.max_constituents)
        x_BPF, mask_BP = self._padded(batch)
        return self.from_padded(x_BPF[..., :4], mask_BP, x_BPF[..., 4:], self._stored_axis(batch)) | rows

    def from_padded(
        self, p4_BP4: Tensor, mask_BP: Tensor, extra_BPF: Tensor | None = None, axis_B4: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Tensors by name from padded constituents; whatever empty slots hold does not matter.

        Parameters
        ----------
        p4_BP4 : Tensor, shape (B, P, 4), GeV
        mask_BP : Tensor, shape (B, P), bool
        extra_BPF : Tensor, shape (B, P, F), optional
            The constituent columns after the four-vector, in the order of `constituent_columns`.
        axis_B4 : Tensor, shape (B, 4), optional
            Stored jet (pT, eta, phi, energy); the constituents' sum if not given.
        """
        if self.features in LUND_FEATURES:
            group = lund_group(p4_BP4, mask_BP, self.lund_cuts)
            return lund_inputs(self.features, group, self.max_constituents)
        p4_BP4 = torch.where(mask_BP[..., None], p4_BP4, 0.0)
        extra_BPF = p4_BP4[..., :0] if extra_BPF is None else torch.where(mask_BP[..., None], extra_BPF, 0.0)
        derived = self._derive(p4_BP4, mask_BP, extra_BPF, axis_B4)
        if "features" in derived and self.needs_statistics:
            derived["features"] = torch.where(mask_BP[..., None], self._standardise(derived["features"]), 0.0)
        derived |= {"mask": mask_BP, "p4": p4_BP4, "rows": torch.arange(len(mask_BP), device=mask_BP.device)}
        return {name: derived[name] for name in self.inputs}

    def fit(self, batches: Iterable[Batch]) -> None:
        """Set centre and width of every feature from the jets of the training split.

        They are the mean and standard deviation of weighted jets; of the sets `BY_SLOT` and of variables of the jet
        that are scaled ``robust`` the median and interquartile range of about `JETS_FOR_QUARTILES` jets, spread evenly
        over all of them, whatever their weights.

        Raises
        ------
        ValueError
            If there are no jets.
        """
        if not self.needs_statistics:
            return
        if self.features in BY_SLOT:
            padded = (self._derived(batch) for batch in batches)
            slots = ((derived["features"], mask_BP) for derived, mask_BP in padded)
            found = medians_and_spreads(slots, self.max_constituents, self.num_features, JETS_FOR_QUARTILES)
        elif self.of_the_jet and self.jet_scaling == "robust":
            variables = (self._jet_features(batch)[:, None] for batch in batches)
            one_slot = ((x_B1F, torch.ones(x_B1F.shape[:2], dtype=torch.bool)) for x_B1F in variables)
            median_1F, spread_1F = medians_and_spreads(one_slot, 1, self.num_features, JETS_FOR_QUARTILES)
            found = median_1F[0], spread_1F[0]
        else:
            found = mean_and_std(map(self._raw_rows, batches), self.num_features)
        self.mean.copy_(found[0])
        self.std.copy_(found[1])

    def _raw_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unstandardised features as rows (N, F) with their weights (N,), float64."""
        weight_B = torch.ones(len(batch)) if batch.weight is None else batch.weight
        if self.of_the_jet:
            return self._jet_features(batch).double(), weight_B.double()
        derived, mask_BP = self._derived(batch)
        weight_BP = weight_B[:, None].expand_as(mask_BP)
        return derived["features"][mask_BP].double(), weight_BP[mask_BP].double()

    def _derived(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Unstandardised tensors and filled slots."""
        x_BPF, mask_BP = self._padded(batch)
        p4_BP4 = torch.where(mask_BP[..., None], x_BPF[..., :4], 0.0)
        return self._derive(p4_BP4, mask_BP, x_BPF[..., 4:], None), mask_BP

    def _padded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        group = batch.groups["constituents"]
        wanted = len(self.constituent_columns)
        assert group.columns[:wanted] == self.constituent_columns, (group.columns, self.constituent_columns)
        # what a task has asked for stands behind
        x_BPF, mask_BP = group.pad(self.max_constituents)
        return x_BPF[..., :wanted], mask_BP

    def _stored_axis(self, batch: Batch) -> Tensor | None:
        if self.jet_axis == "sum":
            return None
        return torch.stack([batch.scalars[name] for name in ("jet_pt", "jet_eta", "jet_phi", "jet_energy")], dim=-1)

    def _jet_features(self, batch: Batch) -> Tensor:
        return torch.stack([batch.scalars[name] for name in self.of_the_jet], dim=-1) / self.divisors

    def _standardise(self, x: Tensor) -> Tensor:
        if self.features not in BY_SLOT:
            return (x - self.mean) / self.std
        # whatever the number of slots is; those beyond the fitted ones are empty
        length = x.shape[1]
        mean_PF = F.pad(self.mean, (0, 0, 0, length))[:length]
        return (x - mean_PF) / F.pad(self.std, (0, 0, 0, length), value=1.0)[:length]

    def _derive(self, p4_BP4: Tensor, mask_BP: Tensor, extra_BPF: Tensor, axis_B4: Tensor | None) -> dict[str, Tensor]:
        if self.features == "energyflow":
            return energy_flow(p4_BP4, mask_BP)
        aligned, flip = self.features.removesuffix(FLIP), self.features.endswith(FLIP)
        if self.features in BY_SLOT:
            return {"features": aligned_momenta(p4_BP4, mask_BP, aligned == "aligned-p4-pt", flip)}
        if aligned == "aligned":
            return _momenta_at(_momentum_fractions(p4_BP4), aligned_angles(p4_BP4, mask_BP, flip))
        if self.features == "atlas7":
            x_BPF = atlas7(p4_BP4, mask_BP)
            return {"features": x_BPF, "points": x_BPF[..., :2]}
        if self.features == "tracks":
            return track_features(p4_BP4, mask_BP, extra_BPF, axis_B4)
        return weaver_features(self.features, p4_BP4, mask_BP, extra_BPF, axis_B4)


def weaver_features(
    features: str, p4_BP4: Tensor, mask_BP: Tensor, extra_BPF: Tensor, axis_B4: Tensor | None = None
) -> dict[str, Tensor]:
    """Return ``features`` (B, P, 7, 13 or 17) and ``points`` (B, P, 2) = (deta, dphi) of the jet-universe sets.

    Parameters
    ----------
    features : "kin", "kinpid", "kinpidplus" or "full"
    p4_BP4 : Tensor, shape (B, P, 4), GeV, 0 in empty slots
    mask_BP : Tensor, shape (B, P), bool
    extra_BPF : Tensor, shape (B, P, F)
        Columns after the four-vector.
    axis_B4 : Tensor, shape (B, 4), optional
        Jet (pT, eta, phi, energy); the sum of the constituents if not given.
    """
    if axis_B4 is None:
        jet_B4 = p4_BP4.sum(dim=1)
        axis_B4 = torch.stack(
            [kinematics.pt(jet_B4), kinematics.eta(jet_B4), kinematics.phi(jet_B4), jet_B4[:, 3]], dim=-1
        )
    jet_pt, jet_eta, jet_phi, jet_energy = (x[:, None] for x in axis_B4.unbind(dim=-1))
    pt_BP = kinematics.pt(p4_BP4)
    side_B1 = torch.where(jet_eta >= 0, 1.0, -1.0)
    deta_BP = (kinematics.eta(p4_BP4) - jet_eta) * side_B1
    dphi_BP = kinematics.delta_phi(kinematics.phi(p4_BP4), jet_phi)
    columns = [
        _scaled(clamped_log(pt_BP), 1.7, 0.7),
        _scaled(clamped_log(p4_BP4[..., 3]), 2.0, 0.7),
        _scaled(clamped_log(pt_BP / jet_pt.clamp(min=kinematics.TINY)), -4.7, 0.7),
        _scaled(clamped_log(p4_BP4[..., 3] / jet_energy.clamp(min=kinematics.TINY)), -4.7, 0.7),
        _scaled(torch.hypot(deta_BP, dphi_BP), 0.2, 4.0),
    ]
    if features != "kin":
        columns += _identity_columns(features, extra_BPF)
    if features == "full":
        d0, d0_err, dz, dz_err = extra_BPF[..., len(PID) :].unbind(dim=-1)
        columns += [torch.tanh(d0), d0_err.clamp(0.0, 1.0), torch.tanh(dz), dz_err.clamp(0.0, 1.0)]
    x_BPF = torch.stack([*columns, deta_BP, dphi_BP], dim=-1)
    points_BP2 = torch.stack([deta_BP, dphi_BP], dim=-1)
    real = mask_BP[..., None]
    return {
        "features": torch.where(real, torch.nan_to_num(x_BPF, 0.0, 0.0, 0.0), 0.0),
        "points": torch.where(real, points_BP2, 0.0),
    }


def track_features(
    p4_BP4: Tensor, mask_BP: Tensor, extra_BPF: Tensor, axis_B4: Tensor | None = None
) -> dict[str, Tensor]:
    """Return ``features`` (B, P, 19), ``flow`` (B, P, 6) and ``track_mask`` (B, P), True for charged constituents.

    Parameters as for `weaver_features`; the last two of either are the jet's (ln pT, eta).
    """
    if axis_B4 is None:
        jet_B4 = p4_BP4.sum(dim=1)
        jet_pt_B, jet_eta_B = kinematics.pt(jet_B4), kinematics.eta(jet_B4)
    else:
        jet_pt_B, jet_eta_B = axis_B4[:, 0], axis_B4[:, 1]
    derived = weaver_features("full", p4_BP4, mask_BP, extra_BPF, axis_B4)
    full_BPF = derived["features"]
    jet_B2 = torch.stack([_scaled(clamped_log(jet_pt_B), 6.0, 1.0), jet_eta_B.clamp(-5.0, 5.0)], dim=-1)
    jet_BP2 = torch.where(mask_BP[..., None], jet_B2[:, None], 0.0)
    return {
        "features": torch.cat([full_BPF, jet_BP2], dim=-1),
        "flow": torch.cat([full_BPF[..., :2], derived["points"], jet_BP2], dim=-1),
        "track_mask": mask_BP & (extra_BPF[..., 0] != 0),
    }


def _identity_columns(features: str, extra_BPF: Tensor) -> list[Tensor]:
    columns = list(extra_BPF[..., : len(PID)].unbind(dim=-1))
    if features == "kinpidplus":
        pdg_id = extra_BPF[..., len(PID)].abs()
        columns[1] = (pdg_id == 211) + 0.5 * (pdg_id == 321) + 0.2 * (pdg_id == 2212)
        columns[2] = (pdg_id == 130) + 0.2 * (pdg_id == 2112)
    return columns


def energy_flow(p4_BP4: Tensor, mask_BP: Tensor) -> dict[str, Tensor]:
    """Momentum fractions ``z`` (B, P), ``angles`` (B, P, 2) about the pT-weighted mean, and ``features`` (B, P, 3)."""
    pt_BP, z_BP = kinematics.pt(p4_BP4), _momentum_fractions(p4_BP4)
    y_BP, phi_BP = kinematics.rapidity(p4_BP4), kinematics.phi(p4_BP4)
    # phi about the hardest constituent first: a mean of angles needs one branch
    reference_B1 = phi_BP.gather(1, pt_BP.argmax(dim=1, keepdim=True))
    phi_BP = kinematics.delta_phi(phi_BP, reference_B1)
    y_BP = y_BP - (z_BP * y_BP).sum(dim=1, keepdim=True)
    phi_BP = phi_BP - (z_BP * phi_BP).sum(dim=1, keepdim=True)
    angles_BP2 = torch.where(mask_BP[..., None], torch.stack([y_BP, phi_BP], dim=-1), 0.0)
    return _momenta_at(z_BP, angles_BP2)


def _momentum_fractions(p4_BP4: Tensor) -> Tensor:
    pt_BP = kinematics.pt(p4_BP4)
    return pt_BP / pt_BP.sum(dim=1, keepdim=True).clamp(min=kinematics.TINY)


def _momenta_at(z_BP: Tensor, angles_BP2: Tensor) -> dict[str, Tensor]:
    features_BP3 = torch.cat([z_BP[..., None], angles_BP2], dim=-1)
    return {"z": z_BP, "angles": angles_BP2, "points": angles_BP2, "features": features_BP3}


def _scaled(x: Tensor, centre: float, scale: float) -> Tensor:
    return ((x - centre) * scale).clamp(-5.0, 5.0)
