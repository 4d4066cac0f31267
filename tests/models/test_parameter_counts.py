"""Published parameter counts, as exact integers."""

import pytest

from jetsweep.models import create_model

LITE = {"num_neighbours": 7, "widths": ((32, 32, 32), (64, 64, 64)), "dense_width": 128}
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
        ("part", 17, 10, {}, 2_143_486),
        ("part", 13, 10, {}, 2_142_958),
        ("part", 7, 10, {}, 2_142_166),
        ("part", 7, 2, {}, 2_141_134),
        ("part", 4, 2, {}, 2_140_738),
        ("part", 17, 10, {"use_pairs": False}, 2_133_918),
        ("part", 7, 2, SMALL_PART, 44_510),
        ("particlenet", 17, 10, {}, 370_156),
        ("particlenet", 13, 10, {}, 369_380),
        ("particlenet", 7, 10, {}, 368_216),
        ("particlenet", 7, 2, {}, 366_160),
        ("particlenet", 4, 2, {}, 365_578),
        ("particlenet", 17, 10, LITE, 28_428),
        ("particlenet", 7, 2, LITE, 26_416),
        ("particlenet", 4, 2, LITE, 26_122),
        ("pfn", 4, 2, {}, 82_558),
        ("pfn", 3, 2, EXAMPLE, 56_730),
        ("pfn", 7, 2, EXAMPLE, 57_130),
        ("pfn", 7, 1, ATLAS_PFN, 754_501),
        ("pfn", 17, 10, {"phi_sizes": (128,) * 3, "f_sizes": (128,) * 3}, 86_154),
        ("efn", 2, 2, {}, 82_358),
        ("efn", 2, 2, EXAMPLE, 56_630),
        ("efn", 2, 1, ATLAS_EFN, 959_251),
        ("hldnn", 15, 1, {}, 133_381),
        ("lundnet", 5, 2, {}, 391_724),
        ("lundnet", 3, 2, {"features": "lund3"}, 391_528),
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


def test_particlenet_buffers():
    buffers = create_model("particlenet", 17, 10).named_buffers()
    assert sum(x.numel() for name, x in buffers if not name.endswith("num_batches_tracked")) == 3_618
