"""Jet images: momentum summed in pixels of the angular plane, on tensors."""

# Shapes: B jets, P constituent slots, S pixels on a side.

from __future__ import annotations

import torch
from torch import Tensor

EDGE = 1e-6
"""Radians below an edge that still belong to the pixel above it."""


def jet_images(angles_BP2: Tensor, weight_BP: Tensor, num_pixels: int = 64, half_width: float = 2.0) -> Tensor:
    """Square images of jets, shape (B, S, S): each constituent adds its weight to the pixel that it points at.

    Row 0 is the lowest phi', column 0 the lowest eta'. A pixel holds its lower edge (and `EDGE` below it), the last
    also its upper one. Constituents outside the image are dropped, see `outside_image`; empty slots enter with
    weight 0.

    Parameters
    ----------
    angles_BP2 : Tensor, shape (B, P, 2), radians
        (eta', phi') relative to the centre of the image, finite.
    weight_BP : Tensor, shape (B, P)
        What is summed, e.g. pT or the momentum fraction; 0 in empty slots.
    num_pixels : int
        Pixels S on a side.
    half_width : float
        The image covers [-half_width, half_width] in both directions.
    """
    # aligned jets have constituents on the edge at 0 up to rounding, which must not decide
    place_BP2 = ((angles_BP2 + (half_width + EDGE)) * (num_pixels / (2 * half_width))).clamp(0, num_pixels - 1).long()
    column_BP, row_BP = place_BP2.unbind(dim=-1)
    weight_BP = torch.where(outside_image(angles_BP2, half_width), 0.0, weight_BP)
    image_BS = weight_BP.new_zeros(len(weight_BP), num_pixels * num_pixels)
    image_BS = image_BS.scatter_add(1, row_BP * num_pixels + column_BP, weight_BP)
    return image_BS.view(-1, num_pixels, num_pixels)


def outside_image(angles_BP2: Tensor, half_width: float = 2.0) -> Tensor:
    """Which constituents a jet image of that `half_width` drops, shape (B, P), bool; its sum counts them."""
    return (angles_BP2.abs() > half_width).any(dim=-1)
