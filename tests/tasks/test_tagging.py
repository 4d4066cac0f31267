import numpy as np
import pytest
import torch

from jetsweep.data.batch import Batch
from jetsweep.errors import DataError, JetsweepError
from jetsweep.metrics import auc, background_rejection, roc_curve
from jetsweep.tasks._tagging_figures import roc_figure
from jetsweep.tasks.tagging import Tagging, TaggingConfig, signal_score


def make_batch(label, weight=None, first_row=0):
    label = torch.as_tensor(label)
    rows = torch.arange(first_row, first_row + len(label))
    return Batch({}, {}, {"label": label}, None if weight is None else torch.as_tensor(weight), rows)


def one_rank(array):
    return array


def evaluate(task, logits, label, weight=None, batch_size=7):
    evaluator = task.evaluator()
    for start in range(0, len(label), batch_size):
        part = slice(start, start + batch_size)
        evaluator.update(logits[part], make_batch(label[part], None if weight is None else weight[part], start))
    return evaluator, evaluator.compute(one_rank)


@pytest.fixture
def jets():
    generator = torch.Generator().manual_seed(3)
    label = torch.randint(0, 2, (400,), generator=generator)
    logits = torch.randn(400, 2, generator=generator)
    logits[:, 1] += 1.5 * label
    return logits, label


def test_metrics_do_not_depend_on_the_batches(jets):
    task = Tagging(TaggingConfig(), ("qcd", "top"))
    _, small = evaluate(task, *jets, batch_size=7)
    _, large = evaluate(task, *jets, batch_size=400)
    assert small == pytest.approx(large)
    assert set(small) == set(task.metric_names())


def test_metrics_do_not_depend_on_the_ranks(jets):
    logits, label = jets
    task = Tagging(TaggingConfig(), ("qcd", "top"))
    _, alone = evaluate(task, logits, label)
    ranks = [task.evaluator(), task.evaluator()]
    ranks[0].update(logits[:150], make_batch(label[:150], None, 0))
    ranks[1].update(logits[150:], make_batch(label[150:], None, 150))
    others = iter([np.concatenate(parts) for parts in ranks[1]._columns.values()])
    together = ranks[0].compute(lambda array: np.concatenate([array, next(others)]))
    assert together == pytest.approx(alone)


def test_values_are_those_of_the_metrics(jets):
    logits, label = jets
    _, values = evaluate(Tagging(TaggingConfig(efficiencies=(0.5,)), ("qcd", "top")), logits, label)
    score = torch.softmax(logits.double(), 1)[:, 1].numpy()
    is_signal = label.numpy() == 1
    assert values["auc"] == pytest.approx(auc(score, is_signal))
    rejection, error, _ = background_rejection(roc_curve(score, is_signal), 0.5)
    assert (values["rejection_at_0.5"], values["rejection_at_0.5_error"]) == pytest.approx((rejection, error))
    assert values["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, label).item(), rel=1e-5)


@pytest.mark.parametrize("signal", ["qcd", "top"])
def test_one_output_is_the_logit_of_the_signal(jets, signal):
    logits, label = jets
    task = Tagging(TaggingConfig(signal=signal), ("qcd", "top"))
    difference = (logits[:, 1] - logits[:, 0]) * (1 if signal == "top" else -1)
    _, one = evaluate(task, difference[:, None], label)
    _, two = evaluate(task, logits, label)
    assert one == pytest.approx(two, rel=1e-5)


def test_loss_of_the_split_is_the_training_loss(jets):
    logits, label = jets
    weight = torch.rand(400, generator=torch.Generator().manual_seed(4))
    task = Tagging(TaggingConfig(class_weights={"top": 3.0}, label_smoothing=0.1), ("qcd", "top"))
    _, values = evaluate(task, logits, label, weight)
    loss, parts = task.loss(logits, make_batch(label, weight))
    assert values["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert parts["loss"].item() == pytest.approx(loss.item())


def test_weights_enter_loss_and_metrics_unless_switched_off(jets):
    logits, label = jets
    weight = torch.rand(400, generator=torch.Generator().manual_seed(4))
    _, plain = evaluate(Tagging(TaggingConfig(), ("qcd", "top")), logits, label)
    _, weighted = evaluate(Tagging(TaggingConfig(), ("qcd", "top")), logits, label, weight)
    _, off = evaluate(Tagging(TaggingConfig(use_weights=False), ("qcd", "top")), logits, label, weight)
    assert off == pytest.approx(plain)
    assert abs(weighted["auc"] - plain["auc"]) > 1e-6
    assert abs(weighted["loss"] - plain["loss"]) > 1e-2


def test_multi_class_uses_one_against_background():
    generator = torch.Generator().manual_seed(3)
    label = torch.randint(0, 3, (600,), generator=generator)
    logits = torch.randn(600, 3, generator=generator) + 1.5 * torch.eye(3)[label]
    task = Tagging(TaggingConfig(signal="Tbqq", background="QCD", efficiencies=(0.5,)), ("QCD", "Hbb", "Tbqq"))
    evaluator, values = evaluate(task, logits, label)
    p = torch.softmax(logits.double(), 1).numpy()
    pair = label.numpy() != 1
    roc = roc_curve((p[:, 2] / (p[:, 2] + p[:, 0]))[pair], label.numpy()[pair] == 2)
    assert values["rejection_at_0.5"] == pytest.approx(background_rejection(roc, 0.5)[0])
    assert set(task.figures(evaluator.arrays())) == {"roc", "score"}


def test_score_of_a_jet_that_is_neither_is_a_half():
    assert signal_score(np.array([[0.0, 1.0, 0.0]]), 0, 2).tolist() == [0.5]


def test_diverged_outputs_give_nan_metrics(jets):
    logits, label = jets
    logits[5] = float("nan")
    _, values = evaluate(Tagging(TaggingConfig(), ("qcd", "top")), logits, label)
    assert all(np.isnan(value) for value in values.values())


def test_a_split_of_one_class_is_refused(jets):
    logits, _ = jets
    with pytest.raises(DataError, match=r"found only \['top'\]"):
        evaluate(Tagging(TaggingConfig(), ("qcd", "top")), logits, torch.ones(400, dtype=torch.int64))


@pytest.mark.parametrize(
    ("config", "classes", "message"),
    [
        (TaggingConfig(signal="tpo"), ("qcd", "top"), r"task.signal: expected one of .*'top'\], found 'tpo'"),
        (TaggingConfig(class_weights={"w": 2.0}), ("qcd", "top"), "task.class_weights"),
        (TaggingConfig(background="top", signal="top"), ("qcd", "top"), "another class than the signal"),
        (TaggingConfig(), ("top",), "at least two classes"),
    ],
)
def test_wrong_classes_are_refused(config, classes, message):
    with pytest.raises(JetsweepError, match=message):
        Tagging(config, classes)


def test_a_curve_of_many_jets_is_drawn_with_few_points():
    rng = np.random.default_rng(1)
    is_signal = rng.random(200_000) < 0.5
    roc = roc_curve(rng.normal(size=200_000) + 2 * is_signal, is_signal)
    figure = roc_figure({"pfn": roc})
    (line,) = figure.axes[0].get_lines()
    x, y = line.get_data()
    assert 1000 < len(x) < 5000
    full = (roc.background_above > 0) & (roc.signal_efficiency > 0.01)
    assert (x[0], x[-1]) == (roc.signal_efficiency[full][0], roc.signal_efficiency[full][-1])
    all_x, all_y = roc.signal_efficiency[full], 1 / roc.background_efficiency[full]
    nearest = np.minimum(
        np.abs(np.interp(all_x, x, y) / all_y - 1), np.abs(np.interp(-all_y, -y, x) - all_x)
    )  # off by less than a line's width either way
    assert nearest.max() < 0.005
