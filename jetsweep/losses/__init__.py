"""Losses of the field, usable on their own."""

from jetsweep.losses.annealing import (
    AnnealingConfig,
    ConstantAnnealing,
    CyclicalAnnealing,
    LinearAnnealing,
    PublishedAnnealing,
    annealing_weight,
)
from jetsweep.losses.classification import classification_loss, cross_entropy_per_jet
from jetsweep.losses.disco import distance_correlation
from jetsweep.losses.emd import sinkhorn_emd
from jetsweep.losses.kl import KLConvention, kl_per_jet, kl_per_latent
from jetsweep.losses.outlier_exposure import ExposureKind, margin_exposure, outlier_exposure, sigmoid_exposure
from jetsweep.losses.reconstruction import ErrorKind, chamfer_error, gaussian_error, reconstruction_error

__all__ = [
    "AnnealingConfig",
    "ConstantAnnealing",
    "CyclicalAnnealing",
    "ErrorKind",
    "ExposureKind",
    "KLConvention",
    "LinearAnnealing",
    "PublishedAnnealing",
    "annealing_weight",
    "chamfer_error",
    "classification_loss",
    "cross_entropy_per_jet",
    "distance_correlation",
    "gaussian_error",
    "kl_per_jet",
    "kl_per_latent",
    "margin_exposure",
    "outlier_exposure",
    "reconstruction_error",
    "sigmoid_exposure",
    "sinkhorn_emd",
]
