"""Counts of the paper, brute-force sums, closed forms, and the independent implementation where it is installed."""

import itertools
import math

import numpy as np
import pytest
import torch

from jetsweep.physics.efp import EnergyFlowPolynomials, Measure, Multigraph, multigraphs
from jetsweep.testing.checks import check_irc_safety

MEASURES = [Measure(name, beta) for name in ("hadr", "hadrdot", "eedot") for beta in (0.5, 1.0, 2.0)]
K4 = Multigraph(tuple(itertools.combinations(range(4), 2)))
K5 = Multigraph(tuple(itertools.combinations(range(5), 2)))


def jets(num_jets=3, num_slots=6, seed=0):
    """Massless constituents (B, P, 4), float64, and a mask with jets of different length."""
    draw = torch.Generator().manual_seed(seed)
    pt = torch.randn(num_jets, num_slots, generator=draw, dtype=torch.float64).exp() * 10
    y, phi = 0.4 * torch.randn(2, num_jets, num_slots, generator=draw, dtype=torch.float64)
    phi = phi + 3.0  # some on either side of pi
    p4 = torch.stack([pt * phi.cos(), pt * phi.sin(), pt * y.sinh(), pt * y.cosh()], dim=-1)
    mask = torch.arange(num_slots) < torch.arange(num_slots, num_slots - num_jets, -1)[:, None]
    return p4, mask


def by_loops(graph, weight, angle):
    total = 0.0
    for sites in itertools.product(range(len(weight)), repeat=graph.num_vertices):
        term = math.prod(weight[i] for i in sites)
        total += term * math.prod(angle[sites[a]][sites[b]] for a, b in graph.edges)
    return total


def test_numbers_of_graphs_are_those_of_the_paper():
    prime, every = multigraphs(7, prime=True), multigraphs(7)
    assert [sum(g.degree == d for g in prime) for d in range(1, 8)] == [1, 2, 5, 12, 33, 103, 333]
    assert [sum(g.degree == d for g in every) for d in range(1, 8)] == [1, 3, 8, 23, 66, 212, 686]
    assert all(g.is_prime for g in prime)
    assert len(set(every)) == len(every) == 1000


def test_the_connected_graphs_to_degree_four_are_in_the_customary_order():
    edges = [
        "", "01", "01 01", "01 01 01", "01 01 01 01", "01 02", "01 02 02", "01 02 02 02", "01 01 02 02", "01 02 12",
        "01 02 02 12", "01 02 03", "01 02 02 03", "01 02 13", "01 02 02 13", "01 01 02 13", "01 02 12 03",
        "01 02 13 23", "01 02 03 04", "01 02 03 14", "01 02 13 24",
    ]  # fmt: skip
    wanted = [Multigraph(tuple((int(a), int(b)) for a, b in text.split())).canonical() for text in edges]
    assert [g.canonical() for g in multigraphs(4, prime=True)] == wanted


def test_renumbered_vertices_are_the_same_graph():
    rng = np.random.default_rng(0)
    for graph in multigraphs(5):
        to = rng.permutation(graph.num_vertices).tolist()
        assert Multigraph(tuple((to[a], to[b]) for a, b in graph.edges)).canonical() == graph.canonical()


@pytest.mark.parametrize(
    ("edges", "message"), [(((0, 0),), "loop"), (((0, 2),), "vertices 0 to 1"), (((1, 2),), "vertices 0 to 1")]
)
def test_wrong_graphs_are_refused(edges, message):
    with pytest.raises(ValueError, match=message):
        Multigraph(edges)


def test_every_graph_equals_its_sum_written_out():
    graphs = [*(g for g in multigraphs(5) if g.num_vertices < 7), K4, K5]
    p4, mask = jets(1, 3)
    measure = Measure(beta=0.7, normed=False)
    weight, angle = measure.of_four_vectors(p4, mask)
    found = EnergyFlowPolynomials(graphs, measure)(p4, mask)[0]
    for graph, value in zip(graphs, found.tolist()):
        assert value == pytest.approx(by_loops(graph, weight[0].tolist(), angle[0].tolist()), rel=1e-12), graph


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_two_constituents_have_closed_forms(measure):
    z, y, phi = 0.3, 0.3, 0.4
    directions = [(0.7, 0.0, 0.0), (z, y, phi)]
    rows = [[p * math.cos(f), p * math.sin(f), p * math.sinh(e), p * math.cosh(e)] for p, e, f in directions]
    p4 = torch.tensor([rows], dtype=torch.float64)
    square = {"hadr": y**2 + phi**2, "hadrdot": 2 * (math.cosh(y) - math.cos(phi))}
    square["eedot"] = 2 * (1 - math.cos(phi) / math.cosh(y))
    soft = z * math.cosh(y) / (0.7 + z * math.cosh(y)) if measure.name == "eedot" else z
    line, double = Multigraph(((0, 1),)), Multigraph(((0, 1), (0, 1)))
    found = EnergyFlowPolynomials([line, double], measure)(p4, torch.ones(1, 2, dtype=torch.bool))[0]
    theta = square[measure.name] ** (measure.beta / 2)
    # of a constituent with itself the rounding of E² - p² is left
    assert found[0].item() == pytest.approx(2 * soft * (1 - soft) * theta, rel=1e-3 if measure.beta < 1 else 1e-6)
    assert found[1].item() == pytest.approx(2 * soft * (1 - soft) * theta**2, rel=1e-6)


def test_masses_enter_the_products_of_four_vectors():
    p4 = torch.tensor([[[30.0, 0.0, 0.0, 50.0], [0.0, 10.0, 5.0, 20.0]]], dtype=torch.float64)
    metric = torch.tensor([-1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    dot = (p4[0] * metric) @ p4[0].T
    for name, size in (("hadrdot", torch.hypot(p4[0, :, 0], p4[0, :, 1])), ("eedot", p4[0, :, 3])):
        _, angle = Measure(name, 2.0).of_four_vectors(p4, torch.ones(1, 2, dtype=torch.bool))
        torch.testing.assert_close(angle[0], 2 * dot / (size[:, None] * size), rtol=1e-12, atol=0)


@pytest.mark.parametrize("measure", [Measure(), Measure("eedot", kappa=0.0), Measure("hadrdot", normed=False)], ids=str)
def test_batches_equal_their_jets_and_empty_slots_do_nothing(measure):
    p4, mask = jets()
    basis = EnergyFlowPolynomials(4, measure)
    whole = basis(torch.where(mask[..., None], p4, math.nan), mask)
    for jet, cut, row in zip(p4, mask, whole):
        torch.testing.assert_close(basis(jet[cut][None], cut[cut][None])[0], row)
    order = torch.randperm(mask.shape[1])
    torch.testing.assert_close(basis(p4[:, order], mask[:, order]), whole)


def test_a_composite_is_the_product_of_its_parts_and_an_empty_jet_is_zero():
    p4, mask = jets()
    basis = EnergyFlowPolynomials(4)
    table = basis(p4, mask)
    column = {g.canonical(): i for i, g in enumerate(basis.graphs)}
    for i, graph in enumerate(basis.graphs):
        parts = [column[part.canonical()] for part in graph.components()]
        torch.testing.assert_close(table[:, i], table[:, parts].prod(dim=1))
    assert not basis(p4, torch.zeros_like(mask)).any()
    assert basis(p4[:0], mask[:0]).shape == (0, 36)


@pytest.mark.parametrize("measure", [m for m in MEASURES if m.beta >= 1], ids=str)
def test_soft_and_collinear_emissions_change_nothing(measure):
    p4, mask = jets()
    check_irc_safety(EnergyFlowPolynomials(5, measure), p4, mask, atol=2e-5)


def test_other_energy_exponents_are_not_safe():
    p4, mask = jets()
    with pytest.raises(AssertionError, match="collinear"):
        check_irc_safety(EnergyFlowPolynomials(3, Measure(kappa=2.0)), p4, mask)


def test_gradients_are_right():
    p4, mask = jets(2, 4)
    basis = EnergyFlowPolynomials([*multigraphs(3), K4])
    assert torch.autograd.gradcheck(lambda p: basis(p, mask), (p4.requires_grad_(),))


def test_coordinates_are_for_the_hadronic_measure():
    p4, mask = jets()
    pt, phi = torch.hypot(p4[..., 0], p4[..., 1]), torch.atan2(p4[..., 1], p4[..., 0])
    eta = torch.asinh(p4[..., 2] / pt)
    basis = EnergyFlowPolynomials(3)
    torch.testing.assert_close(basis.of_coordinates(pt, eta, phi, mask), basis(p4, mask))
    with pytest.raises(ValueError, match="four-vectors"):
        EnergyFlowPolynomials(3, Measure("eedot")).of_coordinates(pt, eta, phi, mask)


def test_wrong_arguments_are_refused():
    for make, message in (
        (lambda: Measure("pt"), "found 'pt'"),
        (lambda: Measure(beta=0.0), "above 0"),
        (lambda: EnergyFlowPolynomials([]), "at least one graph"),
        (lambda: multigraphs(-1), "at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_energyflow_agrees(measure):
    # GPL-3, and one of its own requirements excludes ours: an oracle where somebody has it, never a dependency
    energyflow = pytest.importorskip("energyflow", exc_type=ImportError)
    p4, mask = jets(1, 8)
    basis = EnergyFlowPolynomials(multigraphs(5)[1:], measure)
    name = "ee" if measure.name == "eedot" else measure.name
    events = p4[0].roll(1, dims=-1).numpy()
    oracle = [
        energyflow.EFP(list(g.edges), measure=name, beta=measure.beta, coords="epxpypz").compute(events)
        for g in basis.graphs
    ]
    # of a particle with itself it keeps the rounding of E² - p²
    rtol = 1e-12 if measure.name == "hadr" or measure.beta == 2 else 1e-7 if measure.beta == 1 else 1e-3
    np.testing.assert_allclose(basis(p4, mask)[0].numpy(), oracle, rtol=rtol)
