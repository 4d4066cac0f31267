"""Cross-entropy for taggers with per-jet weights, class weights and label smoothing."""

# Shapes: B jets, C outputs (C = 1: one logit of the signal against the background).

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy_per_jet(logits: Tensor, label: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each jet, shape (B,), float32: binary for one output, categorical for several."""
    if logits.shape[1] == 1:
        target = label.float() * (1.0 - label_smoothing) + 0.5 * label_smoothing
        return F.binary_cross_entropy_with_logits(logits[:, 0].float(), target, reduction="none")
    return F.cross_entropy(logits.float(), label, reduction="none", label_smoothing=label_smoothing)


def classification_loss(
    logits: Tensor, label: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Weighted mean cross-entropy, binary for one output and categorical for several.

    Parameters
    ----------
    logits : Tensor, shape (B, C)
        One column is the logit of class 1; C columns are logits of C classes.
    label : Tensor, shape (B,), int64
        Class index.
    weight : Tensor, shape (B,), optional
        Per-jet weight.
    label_smoothing : float, in [0, 1)
        Share of the target spread evenly over all classes (arXiv:1512.00567).

    Returns
    -------
    Tensor, shape ()
        Sum of weight times cross-entropy, divided by the **number of jets**: a jet's pull on the network does not
        depend on the weights of the other jets in its batch, and the mean over ranks equals the global mean.
    """
    per_jet = cross_entropy_per_jet(logits, label, label_smoothing)
    return per_jet.mean() if weight is None else (weight * per_jet).mean()
