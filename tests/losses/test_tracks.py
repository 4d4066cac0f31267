"""Losses of tracks against loops over pairs, and vertices against a graph library."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components

from jetsweep.losses.tracks import found_vertices, origin_loss, true_pairs, vertex_loss

B, P = 5, 9


@pytest.fixture
def tracks():
    source = torch.Generator().manual_seed(0)
    mask_BP = torch.rand(B, P, generator=source) < 0.7
    mask_BP[0], mask_BP[1, 1:] = False, False
    origin_BP = torch.randint(-1, 8, (B, P), generator=source)
    vertex_BP = torch.randint(-1, 3, (B, P), generator=source)
    return mask_BP, origin_BP, vertex_BP


def test_origin_loss_is_the_mean_over_known_tracks(tracks):
    mask_BP, origin_BP, _ = tracks
    logits = torch.randn(B, P, 8, generator=torch.Generator().manual_seed(1))
    weight_B = torch.tensor([1.0, 2.0, 0.5, 0.0, 3.0])
    expected, count = 0.0, 0
    for b in range(B):
        for p in range(P):
            if mask_BP[b, p] and origin_BP[b, p] >= 0:
                expected -= float(weight_B[b] * logits[b, p].log_softmax(dim=0)[origin_BP[b, p]])
                count += 1
    assert float(origin_loss(logits, origin_BP, mask_BP, weight_B)) == pytest.approx(expected / count, rel=1e-5)


def test_vertex_loss_counts_heavy_pairs_twice_and_divides_by_positive_ones(tracks):
    mask_BP, origin_BP, vertex_BP = tracks
    logits = torch.randn(B, P, P, generator=torch.Generator().manual_seed(1))
    expected, positive = 0.0, 0
    for b in range(B):
        for i in range(P):
            for j in range(P):
                if i == j or not (mask_BP[b, i] and mask_BP[b, j]):
                    continue
                same = bool(vertex_BP[b, i] == vertex_BP[b, j]) and int(vertex_BP[b, i]) >= 0
                heavy = 3 <= int(origin_BP[b, i]) <= 5 and 3 <= int(origin_BP[b, j]) <= 5
                sign = 1 if same else -1
                expected += (2 if heavy else 1) * math.log1p(math.exp(-sign * float(logits[b, i, j])))
                positive += same
    assert positive > 3
    assert float(vertex_loss(logits, vertex_BP, origin_BP, mask_BP)) == pytest.approx(expected / positive, rel=1e-5)


def test_without_tracks_the_losses_are_zero_and_have_gradients():
    none = torch.zeros(2, 4, dtype=torch.bool)
    unknown = torch.full((2, 4), -1)
    origin, same = torch.zeros(2, 4, 8, requires_grad=True), torch.zeros(2, 4, 4, requires_grad=True)
    loss = origin_loss(origin, unknown, none) + vertex_loss(same, unknown, unknown, none)
    loss.backward()
    assert loss == 0
    assert not origin.grad.any()
    assert not same.grad.any()


def test_found_vertices_are_connected_components(tracks):
    mask_BP = tracks[0]
    logits = torch.randn(B, P, P, generator=torch.Generator().manual_seed(2)) - 1.3
    found_BP = found_vertices(logits, mask_BP)
    pair_BPP, _ = true_pairs(torch.zeros(B, P, dtype=torch.long), mask_BP)
    sizes = set()
    for b in range(B):
        joined = ((logits[b] > 0) & pair_BPP[b]).numpy()
        _, label_P = connected_components(joined, directed=False)
        names = [np.flatnonzero(label_P == label_P[p]).min() if mask_BP[b, p] else -1 for p in range(P)]
        assert found_BP[b].tolist() == names
        sizes |= {names.count(name) for name in names if name >= 0}
    assert max(sizes) > 2
