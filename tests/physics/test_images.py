import numpy as np
import torch

from jetsweep.physics.images import jet_images, outside_image


def random_jets(num_jets=5, num_slots=30, spread=0.9, seed=0):
    source = torch.Generator().manual_seed(seed)
    angles = spread * torch.randn(num_jets, num_slots, 2, generator=source, dtype=torch.float64)
    return angles, torch.rand(num_jets, num_slots, generator=source, dtype=torch.float64)


def test_images_are_weighted_histograms():
    angles, weight = random_jets()
    edges = np.linspace(-2.0, 2.0, 65)
    expected = [
        np.histogram2d(phi, eta, bins=[edges, edges], weights=w)[0]
        for (eta, phi), w in zip(angles.transpose(1, 2).numpy(), weight.numpy())
    ]
    np.testing.assert_allclose(jet_images(angles, weight), expected, atol=1e-12)


def test_what_falls_outside_is_dropped_and_can_be_counted():
    angles, weight = random_jets(spread=2.0)
    outside = outside_image(angles)
    assert 0 < outside.sum() < outside.numel()
    kept = jet_images(angles, weight).sum(dim=(1, 2))
    torch.testing.assert_close(kept, torch.where(outside, 0.0, weight).sum(dim=1))


def test_rows_count_from_the_lowest_phi_and_columns_from_the_lowest_eta():
    corners = torch.tensor([[[-2.0, -2.0], [2.0, -2.0], [-2.0, 2.0], [2.0, 2.0], [0.0, 0.0]]])
    image = jet_images(corners, torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), num_pixels=4)
    assert image[0].tolist() == [[1, 0, 0, 2], [0, 0, 0, 0], [0, 0, 5, 0], [3, 0, 0, 4]]


def test_momenta_in_one_pixel_add_up():
    angles = torch.tensor([[[0.01, 0.01], [0.02, 0.03], [9.0, 0.0]]])
    image = jet_images(angles, torch.tensor([[0.5, 0.25, 0.25]]))
    assert image.count_nonzero() == 1
    assert image[0, 32, 32] == 0.75
