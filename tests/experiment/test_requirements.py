"""`search.require` on draws: which are refused, where it is not applied, what probes, samples and grids make of it."""

# ruff: noqa: E501 (a table: one mistake a line)

import pytest

from jetsweep.errors import ExperimentError
from jetsweep.experiment import load_experiment
from jetsweep.experiment.requirements import Unmet
from jetsweep.experiment.sampling import sample
from jetsweep.search.space import grid

BASE = """\
name: test
task: tagging
data: {source: {name: toy, jets: 600}, max_constituents: 32}
model:
  choice:
    - pfn
    - {name: part, embed_dims: {choice: [[32, 64, 32], [60, 65, 60]]}, num_heads: {choice: [4, 5]}, num_layers: 1}
training: {batch_size: {choice: [2, 256]}, accumulate: {choice: [1, 2]}}
search: {trials: 4, sampler: SAMPLER, require: REQUIRE}
"""


@pytest.fixture
def load(tmp_path):
    def load(*require, sampler="tpe"):
        text = BASE.replace("REQUIRE", str(list(require))).replace("SAMPLER", sampler)
        (tmp_path / "a.yaml").write_text(text)
        return load_experiment(tmp_path / "a.yaml")

    return load


HEADS = "model.embed_dims[-1] % model.num_heads == 0"
HEADS_OF_ALL = "model.embed_dims[1] % model.num_heads == 0"


def test_a_combination_that_would_be_an_error_is_drawn_again(load):
    with pytest.raises(ExperimentError, match="does not divide"):
        load()
    template = load(HEADS, HEADS_OF_ALL)
    seen = set()
    for _, experiment in sample(template, 60):
        if experiment.model.name == "part":
            seen.add((experiment.model.embed_dims[1], experiment.model.num_heads))
    assert seen == {(64, 4), (65, 5)}


def test_every_option_that_is_allowed_has_been_validated(load):
    template = load(HEADS, HEADS_OF_ALL)
    parts = {(e.model.embed_dims[1], e.model.num_heads) for e in template.examples if e.model.name == "part"}
    assert parts == {(64, 4), (65, 5)}


def test_a_draw_says_what_it_does_not_meet(load):
    template = load(HEADS, HEADS_OF_ALL, "training.batch_size >= 4 * training.accumulate")
    drawn = {
        "model": "part",
        "model[part].embed_dims": "[32,64,32]",
        "model[part].num_heads": 5,
        "training.batch_size": 256,
        "training.accumulate": 1,
    }
    with pytest.raises(
        Unmet,
        match=r"a\.yaml:9: search\.require\[0\]: expected model\.embed_dims\[-1\] % model\.num_heads == 0, "
        r"found model\.embed_dims\[-1\] = 32, model\.num_heads = 5$",
    ):
        template.concrete(drawn)
    with pytest.raises(Unmet, match=r"found training\.batch_size = 2, training\.accumulate = 1$"):
        template.concrete({**drawn, "model[part].num_heads": 4, "training.batch_size": 2})


def test_defaults_count_and_null_is_absent(load):
    # pfn's sizes and the epochs stand nowhere in the file; no gradient is clipped
    template = load(
        HEADS, HEADS_OF_ALL, "model.phi_sizes[0] == 100", "training.epochs == 10", "training.clip_grad_norm > 5"
    )
    assert {experiment.model.name for _, experiment in sample(template, 20)} == {"pfn", "part"}


def test_the_grid_leaves_out_what_is_refused(load):
    points = list(grid(load(HEADS, HEADS_OF_ALL, "training.accumulate == 1", sampler="grid")))
    assert len(points) == 2 + 2 * 2
    assert all(point["training.accumulate"] == 1 for point in points)


@pytest.mark.parametrize(
    ("require", "sentence"),
    [
        ("model.num_head == 4", r"model\.num_head == 4: expected a key of the experiment, found 'model\.num_head', did you mean 'model\.num_heads'\?"),
        ("model.name == part", "model.name == part: expected a key of the experiment, found 'part'; words are written in quotes"),
        ("model.name > 3", "model.name > 3: expected model.name and 3 to be two numbers, found 'pfn' and 3"),
        ("model == 'pfn'", "model == 'pfn': expected model to be a number, .*, found .*"),
        ("training.epochs > 100", r"expected training.epochs > 100, found training.epochs = 10; none of 200 draws meets search.require"),
        ("training.epochs >", "expected a statement such as .*, found 'training.epochs >' .*"),
        ("1 > 2", "expected 1 > 2, found false; none of 200 draws meets search.require"),
    ],
)  # fmt: skip
def test_mistakes(load, require, sentence):
    with pytest.raises(ExperimentError, match=rf"a\.yaml:9: search\.require\[2\]: {sentence}$"):
        load(HEADS, HEADS_OF_ALL, require)


def test_a_requirement_on_a_tenth_of_a_range(tmp_path):
    text = BASE.replace("REQUIRE", "['training.optimizer.lr < 1e-9']").replace("SAMPLER", "tpe")
    text = text.replace("num_heads: {choice: [4, 5]}, ", "num_heads: 1, ")
    text = text.replace("training: {", "training: {optimizer: {name: adamw, lr: {log: [1e-10, 1]}}, ")
    (tmp_path / "a.yaml").write_text(text)
    template = load_experiment(tmp_path / "a.yaml")
    assert max(e.training.optimizer.lr for _, e in sample(template, 5)) < 1e-9
