"""Every registered architecture can be exported to ONNX and gives the same scores; new ones are found by themselves."""

import json
from copy import deepcopy
from functools import cache

import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.export import convert as export
from jetsweep.export.check import Session, compare
from jetsweep.export.convert import to_onnx
from jetsweep.export.graph import PaddedModel
from jetsweep.models import MODELS
from jetsweep.models._jet_model import build_jet_model
from jetsweep.tasks._base import build_task
from jetsweep.testing import toy_four_vectors
from jetsweep.training.checkpoint import LoadedModel
from jetsweep.training.config import TrialSpec

pytest.importorskip("onnxruntime")

SLOTS = 12
FIXED_SLOTS = {"pelican"}  # architectures whose graphs need jets padded to their slots
# architectures that are not named are exported as configured by default
SMALL_GN2 = {"width": 16, "output_width": 8, "num_layers": 1, "num_heads": 2, "hidden": 16, "head_sizes": (8,)}
COMPUTED_ON_THE_HOST = {"lundnet"}
EXPORTED = sorted(set(MODELS.names()) - COMPUTED_ON_THE_HOST)
TASKS = {
    "logits": "tagging",
    "reconstruction": {"name": "anomaly", "background": ["qcd"]},
    "density": {"name": "anomaly", "background": ["qcd"], "scores": ["energy"]},
}
SMALLER = {
    "ebm": {"set_width": 16, "num_layers": 1, "num_heads": 2, "widths": (8,)},
    "flow": {"transforms": 2, "widths": (8,)},
    "dnn": {"width": 16, "num_layers": 1, "num_constituents": 10},
    "lgatr": {"num_blocks": 1, "num_heads": 2, "num_multivectors": 2, "num_scalars": 4},
    "lorentznet": {"width": 8, "num_layers": 1},
    "particlenet-lite": {"num_neighbours": 4, "widths": ((8, 8), (8, 8)), "dense_width": 8},
    "pcnn": {"stem_width": 8, "widths": (8, 8), "units_per_stage": 1, "dense_width": 8},
    "pelican": {"width": 14, "message_width": 5, "num_layers": 1},
    "resnet": {"num_pixels": 16, "num_blocks": (1, 1), "base_width": 4},
    "gn2": SMALL_GN2,
    "gn2x": SMALL_GN2,
    "part": {
        "embed_dims": (16,),
        "pair_embed_dims": (8,),
        "num_heads": 2,
        "num_layers": 1,
        "num_class_layers": 1,
    },
    "particlenet": {"num_neighbours": 4, "widths": ((8, 8), (8, 8)), "dense_width": 8},
    "pfn": {"phi_sizes": (16, 16), "f_sizes": (16,)},
    "efn": {"phi_sizes": (16, 16), "f_sizes": (16,)},
}


@cache
def of_default(name):
    """Exported once; tests do not change it."""
    return exported(name)


def exported(name, fixed_slots=FIXED_SLOTS, **settings):
    """Graph with random weights and statistics, and its ONNX session."""
    model = {"name": name, **SMALLER.get(name, {}), **settings}
    data = {"path": "nowhere", "max_constituents": SLOTS}
    task = TASKS[MODELS.get(name).config.outputs]
    spec = TrialSpec.model_validate({"name": "t", "data": data, "task": task, "model": model})
    classes = ("qcd", "top")
    num_outputs = build_task(spec.task, classes).num_outputs(spec.model.binary_output)
    torch.manual_seed(0)
    jet_model = build_jet_model(spec.model, num_outputs, SLOTS).eval()
    if jet_model.preprocessing.needs_statistics:
        jet_model.preprocessing.std.uniform_(0.5, 2.0)
        if "p4" in jet_model.preprocessing.features:  # GeV
            jet_model.preprocessing.std.mul_(50.0)
    graph = PaddedModel(LoadedModel(jet_model, spec, classes))
    content, slots_are_free = to_onnx(graph, inputs(graph, 5, SLOTS), {"model": name})
    assert slots_are_free == (name not in fixed_slots)
    return graph, Session(content), content


def inputs(graph, num_jets, num_slots, seed=1):
    """Constituents with further columns, and jet scalars, as a graph asks for them."""
    p4_BP4, mask_BP, _ = toy_four_vectors(num_jets, num_slots, seed)
    source = torch.Generator().manual_seed(seed)
    further_BPF = torch.rand(num_jets, num_slots, max(0, len(graph.columns) - 4), generator=source)
    scalars = torch.rand(num_jets, len(graph.scalars), generator=source)
    constituents = (torch.cat([p4_BP4, further_BPF], dim=-1), mask_BP) if graph.columns else ()
    return (*constituents, *((scalars,) if graph.scalars else ()))


def check_empty_jets_and_junk_in_padding(graph, session):
    x_BPF, mask_BP, *scalars = inputs(graph, 4, SLOTS)
    mask_BP[:, 7:], mask_BP[0] = False, False
    junk_BPF = torch.where(mask_BP[..., None], x_BPF, torch.nan)
    clean, dirty = (session(graph.feed((x, mask_BP, *scalars))) for x in (x_BPF, junk_BPF))
    torch.testing.assert_close(torch.from_numpy(dirty), torch.from_numpy(clean))
    compare(graph, session, [(junk_BPF, mask_BP, *scalars)], 1e-5)


@pytest.mark.parametrize("name", EXPORTED)
def test_scores_of_onnx_equal_those_of_pytorch(name):
    """In one test, since an export takes seconds and parallel test processes share none."""
    graph, session, _ = of_default(name)
    sizes = [(5, SLOTS), (1, SLOTS), (64, SLOTS)]
    if name not in FIXED_SLOTS:
        sizes += [(7, SLOTS - 3), (4, 2), (3, 1)]
    agreement = compare(graph, session, [inputs(graph, *size, seed=i) for i, size in enumerate(sizes)], 1e-5)
    assert agreement.jets == sum(num_jets for num_jets, _ in sizes)
    with torch.no_grad():
        scores = graph(*inputs(graph, 64, SLOTS, seed=2))
    assert scores.std(dim=0).min() > 1e-6  # else equal scores would say nothing
    if graph.task.config.name == "tagging":
        torch.testing.assert_close(scores.sum(dim=1), torch.ones(64))
    if graph.columns:
        check_empty_jets_and_junk_in_padding(graph, session)


@pytest.mark.parametrize("name", sorted(COMPUTED_ON_THE_HOST))
def test_inputs_from_the_host_are_refused(name):
    with pytest.raises(JetsweepError, match=f"{name} cannot be written as ONNX: its inputs .* computed .* on the host"):
        exported(name)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ebm", {"encoder": "dense", "widths": (16,)}),
        ("flow", {"kind": "maf"}),
        ("vae", {"encoder": "transformer", "set_width": 16, "num_heads": 2, "widths": (16,)}),
    ],
)
def test_other_kinds(name, settings):
    graph, session, _ = exported(name, **settings)
    compare(graph, session, [inputs(graph, 32, SLOTS), inputs(graph, 2, SLOTS)], 1e-5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pfn", {"features": "full", "jet_axis": "stored"}),
        ("pfn", {"features": "atlas7"}),
        ("vae", {"features": "high-level"}),
    ],
    ids=str,
)
def test_other_inputs(name, settings):
    graph, session, _ = exported(name, **settings)
    compare(graph, session, [inputs(graph, 32, SLOTS), inputs(graph, 2, 5)], 1e-5)


def test_where_free_slots_fail_they_are_fixed(monkeypatch):
    convert = export._convert

    def fixed_alone(graph, example, slots_are_free):
        if slots_are_free:
            raise RuntimeError("this graph is of so many slots")
        return convert(graph, example, slots_are_free)

    monkeypatch.setattr(export, "_convert", fixed_alone)
    graph, session, content = exported("efn", fixed_slots={"efn"})
    compare(graph, session, [inputs(graph, 32, SLOTS), inputs(graph, 1, SLOTS)], 1e-5)
    assert b"fixed" in content


def test_metadata_name_what_goes_in_and_out():
    import onnx

    _, _, content = of_default("pfn")
    model = onnx.load_model_from_string(content)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(entries["jetsweep.columns"]) == ["px", "py", "pz", "energy"]
    assert json.loads(entries["jetsweep.scores"]) == ["score_qcd", "score_top"]
    assert entries["jetsweep.model"] == "pfn"
    shapes = {x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] for x in model.graph.input}
    assert shapes == {"constituents": ["jets", "slots", 4], "mask": ["jets", "slots"]}
    assert [x.name for x in model.graph.output] == ["scores"]
    assert b".py" not in content  # the exporter notes files of this machine


def test_a_difference_is_refused():
    graph, session, _ = of_default("pfn")
    graph = deepcopy(graph)
    with torch.no_grad():
        graph.model.network.head.output.weight.neg_()
    with pytest.raises(
        JetsweepError, match=r"pfn: scores of ONNX differ .* by up to [\d.]+ on 8 jets, expected at most"
    ):
        compare(graph, session, [inputs(graph, 8, SLOTS)], 1e-3)
    with torch.no_grad():
        graph.model.network.head.output.bias[0] = torch.nan
    with pytest.raises(JetsweepError, match="not finite"):
        compare(graph, session, [inputs(graph, 8, SLOTS)], 1e-3)
