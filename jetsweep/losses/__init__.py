"""Losses of the field, usable on their own."""

from jetsweep.losses.classification import classification_loss, cross_entropy_per_jet

__all__ = ["classification_loss", "cross_entropy_per_jet"]
