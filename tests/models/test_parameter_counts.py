"""Published parameter counts, as exact integers."""

from importlib.util import find_spec

import pytest

from jetsweep.models import create_model

needs_lgatr = pytest.mark.skipif(find_spec("lgatr") is None, reason="needs the extra lgatr")
needs_zuko = pytest.mark.skipif(find_spec("zuko") is None, reason="needs the extra flows")
SMALL_PART = {
    "embed_dims": (32, 64, 32),
    "pair_embed_dims": (16, 16),
    "num_heads": 4,
    "num_layers": 2,
    "num_class_layers": 1,
}
EXAMPLE = {"phi_sizes": (100, 100, 128)}
ATLAS_PFN = {"phi_sizes": (250, 250, 250), "f_sizes": (500, 500, 500), "initialiser": "glorot-normal"}
ATLAS_EFN = {"phi_sizes": (350,) * 5, "f_sizes": (300,) * 5, "initialiser": "glorot-normal"}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "num_features", "num_classes", "config", "expected"),
    [
        ("gn2", 21, 4, {"track_heads": True}, 2_339_150),
        ("gn2x", 22, 4, {"track_heads": True}, 5_565_774),
        ("part", 17, 10, {}, 2_143_486),
        ("part", 13, 10, {}, 2_142_958),
        ("part", 7, 10, {}, 2_142_166),
        ("part", 7, 2, {}, 2_141_134),
        ("part", 4, 2, {}, 2_140_738),
        ("part", 17, 10, {"use_pairs": False}, 2_133_918),
        ("part", 17, 10, {"version": 2}, 2_789_806),
        ("part", 17, 10, {"version": 3}, 2_770_278),
        ("part", 7, 2, SMALL_PART, 44_510),
        ("particlenet", 17, 10, {}, 370_156),
        ("particlenet", 13, 10, {}, 369_380),
        ("particlenet", 7, 10, {}, 368_216),
        ("particlenet", 7, 2, {}, 366_160),
        ("particlenet", 4, 2, {}, 365_578),
        ("particlenet-lite", 17, 10, {}, 28_428),
        ("particlenet-lite", 7, 2, {}, 26_416),
        ("particlenet-lite", 4, 2, {}, 26_122),
        ("pcnn", 17, 10, {}, 354_540),
        ("pfn", 4, 2, {}, 82_558),
        ("pfn", 3, 2, EXAMPLE, 56_730),
        ("pfn", 7, 2, EXAMPLE, 57_130),
        ("pfn", 7, 1, ATLAS_PFN, 754_501),
        ("pfn", 17, 10, {"phi_sizes": (128,) * 3, "f_sizes": (128,) * 3}, 86_154),
        ("efn", 2, 2, {}, 82_358),
        ("efn", 2, 2, EXAMPLE, 56_630),
        ("efn", 2, 1, ATLAS_EFN, 959_251),
        ("hldnn", 15, 1, {}, 133_381),
        ("mlp", 4, 1, {}, 8_705),
        ("ebm", 3, 0, {}, 1_077_377),
        # counted on a network of this description; the printed 1,499,585 hold moving statistics and an unpublished stem
        ("resnet", 3, 1, {}, 1_479_921),
        ("lorentznet", 7, 2, {}, 224_072),
        ("lorentznet", 8, 2, {"scalars": "features", "beams": False}, 227_096),
        ("pelican", 7, 2, {}, 208_797),
        ("pelican", 7, 2, {"width": 60, "message_width": 35}, 48_482),
        ("pelican", 7, 2, {"width": 40, "message_width": 24}, 24_547),
        ("pelican", 7, 2, {"width": 25, "message_width": 15}, 11_347),
        ("pelican", 7, 2, {"width": 16, "message_width": 10}, 5_933),
        ("pelican", 7, 2, {"width": 11, "message_width": 7}, 3_549),
        ("lundnet", 5, 2, {}, 391_724),
        ("lundnet", 3, 2, {"features": "lund3"}, 391_528),
        # printed as 1.1M
        pytest.param("flow", 15, 0, {}, 82_827, marks=needs_zuko),
        pytest.param("lgatr", 7, 2, {}, 1_074_564, marks=needs_lgatr),
        pytest.param("lgatr", 7, 1, {}, 1_074_338, marks=needs_lgatr),
    ],
)
def test_published_counts(name, num_features, num_classes, config, expected):
    assert count(create_model(name, num_features, num_classes, **config)) == expected


def test_particle_transformer_part_by_part():
    part = create_model("part", 17, 10)
    assert count(part.input_norm) + count(part.embed) == 135_364
    assert count(part.pair_embed) == 9_568
    assert [count(block) for block in part.blocks] == [199_688] * 8
    assert [count(block) for block in part.class_blocks] == [199_688] * 2
    assert count(part.norm) == 256
    assert count(part.head) == 1_290
    assert part.class_token.numel() == 128


@pytest.mark.parametrize(("version", "block", "pairs"), [(2, 264_320, 9_568), (3, 262_400, 9_368)])
def test_later_versions_part_by_part(version, block, pairs):
    part = create_model("part", 17, 10, version=version)
    assert {count(module) for module in [*part.blocks, *part.class_blocks]} == {block}
    assert count(part.pair_embed) == pairs


def moving_statistics(network):
    return sum(x.numel() for name, x in network.named_buffers() if not name.endswith("num_batches_tracked"))


def test_particlenet_buffers():
    assert moving_statistics(create_model("particlenet", 17, 10)) == 3_618


def test_constituent_dnn_with_its_moving_statistics():
    dnn = create_model("dnn", 7, 1)
    assert count(dnn) + moving_statistics(dnn) == 876_641
