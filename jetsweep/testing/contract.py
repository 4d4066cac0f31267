"""What every architecture must honour, as a class of tests to inherit."""

# Shapes: B jets, P slots, C classes.

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jetsweep.models._base import MODELS, ModelConfig, build_network, inputs_of
from jetsweep.testing.checks import (
    OF_THE_JET,
    check_batch_independence,
    check_boost_invariance,
    check_finite_gradients,
    check_lorentz_invariance,
    check_padding_invariance,
    check_permutation_invariance,
    check_rotation_invariance,
    on_four_vectors,
)
from jetsweep.testing.toys import toy_four_vectors, toy_inputs

SYMMETRIES = ("rotation", "boost", "lorentz")


class ModelContract:
    """Tests of one architecture; inherit under a name that starts with ``Test``.

    Attributes
    ----------
    config : ModelConfig
        The architecture's config, e.g. its defaults.
    training_config : ModelConfig or None
        A smaller config for the twenty training steps and for compiling; `config` if None.
    num_classes : int
    num_jets, num_slots : int
        Size of the toy batches.
    is_permutation_invariant : bool
        Whether the order of constituents must not matter.
    atol : float
        Tolerance of the invariances, absolute and relative.
    bf16_atol : float
        Tolerance of bf16 autocast against float32.
    symmetry_atol : float
        Tolerance of the declared symmetries in float64.
    learning_rate : float
        Of the twenty Adam steps.

    A network may declare in a class attribute ``symmetries`` what leaves its output alone: "rotation" about the beam,
    "boost" along the beam, "lorentz" for any of the Lorentz group, its buffer ``references`` transformed as well.

    Examples
    --------
    >>> from jetsweep.models.pfn import PFNConfig
    >>> class TestNarrowPFN(ModelContract):
    ...     config = PFNConfig(phi_sizes=(8, 8), f_sizes=(8,))
    """

    config: ClassVar[ModelConfig]
    training_config: ClassVar[ModelConfig | None] = None
    num_classes: ClassVar[int] = 2
    num_jets: ClassVar[int] = 6
    num_slots: ClassVar[int] = 20
    is_permutation_invariant: ClassVar[bool] = True
    atol: ClassVar[float] = 1e-5
    bf16_atol: ClassVar[float] = 0.1
    symmetry_atol: ClassVar[float] = 1e-6
    learning_rate: ClassVar[float] = 1e-3

    def make(self, config: ModelConfig | None = None, seed: int = 0) -> nn.Module:
        """Network with weights drawn from `seed` and, where it normalises, statistics of a few toy batches."""
        contract = cast("Hashable", type(self))  # a class is hashable, but mypy does not see it
        network = deepcopy(_made(contract, (config or self.config).model_dump_json(), seed))
        torch.manual_seed(seed)
        return network

    def toys(
        self, seed: int = 0, config: ModelConfig | None = None, **options: int
    ) -> tuple[dict[str, Tensor], Tensor, int]:
        """Tensors, labels and number of features of a toy batch."""
        config = config or self.config
        sizes = {"num_jets": self.num_jets, "num_slots": self.num_slots} | options
        return toy_inputs(config, inputs_of(config), seed=seed, **sizes)

    def build(self, config: ModelConfig, num_features: int) -> nn.Module:
        """A network whose output is a tensor of shape (B, C)."""
        return build_network(config, num_features, self.num_classes)

    def loss(self, network: nn.Module, tensors: dict[str, Tensor], label_B: Tensor) -> Tensor:
        """What the twenty steps lower."""
        return F.cross_entropy(network(**tensors), label_B)

    def takes_constituents(self) -> bool:
        """Whether the network sees constituents at all."""
        return "mask" in self.toys()[0]

    def test_outputs_are_finite_logits(self) -> None:
        tensors, _, _ = self.toys()
        logits_BC = self.make()(**tensors)
        assert logits_BC.shape == (self.num_jets, self.num_classes)
        assert logits_BC.isfinite().all()

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        tensors, label_B, _ = self.toys()
        check_finite_gradients(self.make(), tensors, label_B)

    def test_small_batches_in_training(self) -> None:
        for num_jets in (1, 2):
            tensors, label_B, _ = self.toys(num_jets=num_jets)
            if self.takes_constituents():
                # one constituent in all
                tensors["mask"] = tensors["mask"] & (torch.arange(self.num_slots) == 0)
            check_finite_gradients(self.make(), tensors, label_B)

    def test_empty_jets(self) -> None:
        if not self.takes_constituents():
            return
        tensors, label_B, _ = self.toys()
        network = self.make()
        full = network(**tensors)
        tensors["mask"] = tensors["mask"].clone()
        tensors["mask"][0] = False
        logits_BC = network(**tensors)
        assert logits_BC.isfinite().all()
        torch.testing.assert_close(logits_BC[1:], full[1:], atol=self.atol, rtol=self.atol)
        check_finite_gradients(network, tensors, label_B)
        tensors["mask"] = torch.zeros_like(tensors["mask"])
        assert self.make()(**tensors).isfinite().all()

    def test_each_row_equals_that_jet_alone(self) -> None:
        check_batch_independence(self.make(), self.toys()[0], self.atol)

    def test_order_of_constituents_does_not_matter(self) -> None:
        if self.takes_constituents() and self.is_permutation_invariant:
            check_permutation_invariance(self.make(), self.toys()[0], atol=self.atol)

    def test_padding_does_not_matter(self) -> None:
        if self.takes_constituents():
            check_padding_invariance(self.make(), self.toys()[0], atol=self.atol)

    def test_declared_symmetries_hold(self) -> None:
        """In float64, with features rebuilt: what remains is rounding, amplified by no more than the logits' size."""
        declared: Any = getattr(MODELS.get(self.config.name).network, "symmetries", ())
        assert set(declared) <= set(SYMMETRIES), f"expected symmetries out of {SYMMETRIES}, found {declared}"
        if not declared:
            return
        network = self.make().double()
        p4_BP4, mask_BP, _ = toy_four_vectors(self.num_jets, self.num_slots, seed=1)
        p4_BP4, features = p4_BP4.double(), self.config.features
        for name in declared:
            if name == "lorentz":
                check_lorentz_invariance(network, features, p4_BP4, mask_BP, atol=self.symmetry_atol)
            else:
                check = check_rotation_invariance if name == "rotation" else check_boost_invariance
                check(on_four_vectors(network, features), p4_BP4, mask_BP, atol=self.symmetry_atol)

    def test_junk_in_padding_leaves_gradients_alone(self) -> None:
        if not self.takes_constituents():
            return
        tensors, label_B, _ = self.toys()
        mask_BP = tensors["mask"]
        junk = {name: x if name in OF_THE_JET else _with_junk(x, mask_BP) for name, x in tensors.items()}
        clean, dirty = self._gradients(tensors, label_B), self._gradients(junk, label_B)
        torch.testing.assert_close(dirty, clean, atol=self.atol, rtol=self.atol)

    def _gradients(self, tensors: dict[str, Tensor], label_B: Tensor) -> list[Tensor | None]:
        network = self.make()
        self.loss(network, tensors, label_B).backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in network.parameters()]

    def test_config_and_weights_survive_a_round_trip(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        network, (tensors, _, num_features) = self.make(), self.toys()
        save_file(network.state_dict(), tmp_path / "weights.safetensors")
        config = type(self.config).model_validate_json(self.config.model_dump_json())
        assert config == self.config
        restored = self.build(config, num_features).eval()
        restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(restored(**tensors), network(**tensors))

    def test_autocast_to_bf16(self) -> None:
        network, (tensors, label_B, _) = self.make(), self.toys()
        with torch.no_grad():
            exact = network(**tensors)
            with torch.autocast("cpu", torch.bfloat16):
                rounded = network(**tensors)
        torch.testing.assert_close(rounded.float(), exact, atol=self.bf16_atol, rtol=self.bf16_atol)
        with torch.autocast("cpu", torch.bfloat16):
            check_finite_gradients(network, tensors, label_B)

    def test_compiles_without_graph_breaks(self) -> None:
        config = self.training_config or self.config
        network, (tensors, _, _) = self.make(config), self.toys(config=config)
        torch.compiler.reset()
        compiled: Any = torch.compile(network, fullgraph=True, backend="eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(**tensors), network(**tensors), atol=self.atol, rtol=self.atol)
        assert compiled.train()(**tensors).isfinite().all()
        torch.compiler.reset()

    def test_twenty_steps_lower_the_loss_and_reproduce(self) -> None:
        first, second = self._train(), self._train()
        assert first == second, f"the same seed gave losses {first} and {second}"
        assert sum(first[-5:]) < 0.9 * sum(first[:5]), f"twenty steps did not lower the loss: {first}"

    def _train(self) -> list[float]:
        config = self.training_config or self.config
        network = self.make(config)
        torch.manual_seed(1)
        optimizer = torch.optim.Adam(network.train().parameters(), lr=self.learning_rate)
        losses = []
        for step in range(20):
            tensors, label_B, _ = self.toys(seed=step, config=config, num_jets=32, min_constituents=5)
            optimizer.zero_grad()
            loss = self.loss(network, tensors, label_B)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        return losses


class AutoencoderContract(ModelContract):
    """Tests of an auto-encoder, on its error and its latent coordinates."""

    def build(self, config: ModelConfig, num_features: int) -> nn.Module:
        return _ErrorAndLatents(build_network(config, num_features, 0))

    def loss(self, network: nn.Module, tensors: dict[str, Tensor], label_B: Tensor) -> Tensor:
        error_B: Tensor = network(**tensors)[:, 0]
        return error_B.mean()

    def test_outputs_are_finite_logits(self) -> None:
        """Not logits here, but finite, and of the shape of the input."""
        tensors, _, num_features = self.toys()
        summary: Any = self.make()
        outputs = summary.network(**tensors)
        assert outputs.error.shape == (self.num_jets,)
        assert outputs.target.shape == outputs.output.shape == (*outputs.mask.shape, num_features)
        assert outputs.error.isfinite().all()
        assert outputs.output.isfinite().all()
        assert outputs.mean.isfinite().all()


class DensityContract(ModelContract):
    """Tests of a model of the density of jets, on what it lowers in training and its energy in evaluation."""

    def build(self, config: ModelConfig, num_features: int) -> nn.Module:
        return _LossAndZero(build_network(config, num_features, 0))

    def loss(self, network: nn.Module, tensors: dict[str, Tensor], label_B: Tensor) -> Tensor:
        loss_B: Tensor = network(**tensors)[:, 0]
        return loss_B.mean()

    def test_outputs_are_finite_logits(self) -> None:
        """Not logits here, but finite, one per jet, and in evaluation the loss is the energy."""
        tensors, _, _ = self.toys()
        summary: Any = self.make()
        outputs = summary.network(**tensors)
        assert outputs.energy.shape == (self.num_jets,)
        assert outputs.energy.isfinite().all()
        assert torch.equal(outputs.loss, outputs.energy)
        assert outputs.sample_energy is None


class _LossAndZero(nn.Module):
    """What a density lowers beside a column of zeros, shape (B, 2), so that there are two classes to tell apart."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **tensors: Tensor) -> Tensor:
        loss_B = self.network(**tensors).loss
        return torch.stack([loss_B, torch.zeros_like(loss_B)], dim=1)


class _ErrorAndLatents(nn.Module):
    """An auto-encoder's error, latent coordinates and, if learned, their density, shape (B, 1 + L or more)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **tensors: Tensor) -> Tensor:
        outputs = self.network(**tensors)
        columns = [outputs.error[:, None], outputs.mean.float()]
        if outputs.latent_nll is not None:
            columns.append(outputs.latent_nll[:, None])
        return torch.cat(columns, dim=1)


@lru_cache(maxsize=4)
def _made(contract: type[ModelContract], config_json: str, seed: int) -> nn.Module:
    """What `ModelContract.make` hands out copies of: most tests of a class ask for the same network."""
    toys, config = contract(), type(contract.config).model_validate_json(config_json)
    torch.manual_seed(seed)
    _, _, num_features = toys.toys(config=config)
    network = toys.build(config, num_features)
    with torch.no_grad():
        for k in range(3):
            network.train()(**toys.toys(seed=100 + k, config=config)[0])
    return network.eval()


def _with_junk(x: Tensor, mask_BP: Tensor) -> Tensor:
    """Not-a-number in every empty slot; 0, a slot that may be real, where integers name slots."""
    if x.dtype == torch.bool:
        return x
    junk = torch.nan if x.dtype.is_floating_point else 0
    return torch.where(mask_BP.view(*mask_BP.shape, *[1] * (x.dim() - 2)), x, junk)
