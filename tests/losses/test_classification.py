import math

import pytest
import torch

from jetsweep.losses import classification_loss, cross_entropy_per_jet


def test_one_logit_equals_two_logits():
    logit = torch.tensor([[0.3], [-1.2], [2.0]])
    label = torch.tensor([1, 0, 0])
    both = torch.cat([torch.zeros_like(logit), logit], dim=1)
    for smoothing in (0.0, 0.1):
        torch.testing.assert_close(
            classification_loss(logit, label, label_smoothing=smoothing),
            classification_loss(both, label, label_smoothing=smoothing),
        )


def test_known_value():
    assert classification_loss(torch.zeros(5, 4), torch.arange(5) % 4).item() == pytest.approx(math.log(4))
    assert classification_loss(torch.zeros(5, 1), torch.arange(5) % 2).item() == pytest.approx(math.log(2))


def test_weight_scales_a_jets_own_term_only():
    logits, label = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
    weight = torch.tensor([0.0, 1.0, 2.0, 1.0, 1.0, 3.0])
    expected = (cross_entropy_per_jet(logits, label) * weight).sum() / 6
    torch.testing.assert_close(classification_loss(logits, label, weight), expected)
    halves = [classification_loss(logits[i : i + 3], label[i : i + 3], weight[i : i + 3]) for i in (0, 3)]
    torch.testing.assert_close(torch.stack(halves).mean(), expected)


def test_half_precision_logits_are_summed_in_float32():
    loss = classification_loss(torch.full((2, 2), 3.0, dtype=torch.bfloat16), torch.tensor([0, 1]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
