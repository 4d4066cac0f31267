"""Given points and earlier sweeps: what enters a study, what is refused, and that it enters once."""

# ruff: noqa: E501 (a table: one mistake a line)

import json

import pytest
from optuna.trial import TrialState

from jetsweep.errors import ExperimentError
from jetsweep.search.best import best, own_trials
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.study import open_study
from jetsweep.search.warm_start import find_earlier, warm_start

NORMAL = "model.f_dropout={normal: [0.2, 0.05]}"
BATCH = "training.batch_size={choice: [32, 64]}"


def make_searcher(template, folder):
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(folder, template.search)
    report = warm_start(study, template, folder.parent)
    return StudySearcher(study, template, folder, folder, template.search.trials, 1), report


def run(searcher, outcomes):
    for i, (because, auc) in enumerate(outcomes):
        searcher.suggest(str(i))
        trial = searcher.trials[str(i)]
        trial.folder.mkdir(parents=True)
        result = {"parameters": 1000 * (i + 1), "seconds": 1.0, "best": {"val/auc": auc, "val/loss": 0.1}}
        (trial.folder / "result.json").write_text(json.dumps(result))
        searcher.judge(str(i), {"epoch": 1, "objective": auc})
        flat = {"epoch": 2, "best": json.dumps({"val/auc": auc, "val/loss": 0.1}), "final": True, "ended": because}
        searcher.on_trial_complete(str(i), flat)


@pytest.fixture
def earlier(make_template, tmp_path):
    """A sweep ``old`` of five trials: three complete, one stopped, one failed."""

    def make(*overrides, sampler="random"):
        template = make_template(NORMAL, BATCH, *overrides, sampler=sampler, trials=5)
        searcher, _ = make_searcher(template, tmp_path / "runs" / "old")
        (tmp_path / "runs" / "old" / "experiment.yaml").write_text(template.to_yaml())
        run(searcher, [("budget", 0.8), ("budget", 0.9), ("scheduler", 0.6), ("error", 0.0), ("patience", 0.7)])
        return searcher

    return make


def later(make_template, tmp_path, *overrides, **given):
    template = make_template("search.start.sweep=old", *overrides, **{"sampler": "tpe", **given})
    return make_searcher(template, tmp_path / "runs" / "new")


def test_points_run_first_and_the_rest_is_drawn(make_template, tmp_path):
    points = [{"training.optimizer.lr": 2e-3, "model.f_dropout": 0.25}, {"training.batch_size": 64}]
    template = make_template(NORMAL, BATCH, f"search.start.points={json.dumps(points)}", trials=4)
    searcher, report = make_searcher(template, tmp_path / "sweep")
    assert report.sentences() == ["2 given points will run first"]
    for i in range(3):
        searcher.suggest(str(i))
    first, second, third = (searcher.trials[str(i)] for i in range(3))
    assert first.experiment.training.optimizer.lr == 2e-3
    assert first.experiment.model.f_dropout == pytest.approx(0.25)
    assert second.experiment.training.batch_size == 64
    assert second.experiment.training.optimizer.lr != third.experiment.training.optimizer.lr
    again = warm_start(open_study(tmp_path / "sweep", template.search), template, tmp_path)
    assert again.points == 0


def test_points_in_branches(make_template, tmp_path):
    model = (
        "model={choice: [{name: pfn, f_dropout: {uniform: [0, 0.2]}}, {name: efn, f_dropout: {uniform: [0.5, 0.9]}}]}"
    )
    for point, drawn in [
        ({"model": "efn", "model.f_dropout": 0.7}, {"model": "efn", "model[efn].f_dropout": 0.7}),
        ({"model[pfn].f_dropout": 0.1, "model": "pfn"}, {"model": "pfn", "model[pfn].f_dropout": 0.1}),
    ]:
        template = make_template(model, f"search.start.points=[{json.dumps(point)}]")
        searcher, _ = make_searcher(template, tmp_path / str(point["model"]))
        searcher.suggest("0")
        params = dict(searcher.trials["0"].params)
        params.pop("training.optimizer.lr")
        assert params == drawn


@pytest.mark.parametrize(
    ("point", "sentence"),
    [
        ({"training.optimizer.lr": 1.0}, r"training\.optimizer\.lr: expected a number from 0\.001 to 0\.01, found 1"),
        ({"training.optimizer.lr": "x"}, r"training\.optimizer\.lr: expected a number, found 'x'"),
        ({"training.optimizer.l": 1}, r"training\.optimizer\.l: .*, did you mean 'training\.optimizer\.lr'\?"),
        ({"training.batch_size": 65}, r"training\.batch_size: expected one of 32, 64, found 65"),
        ({"model": "pnf"}, r"model: expected one of pfn, efn, found 'pnf', did you mean 'pfn'\?"),
        ({"model": "pfn", "model.width": 8}, r"model\.width: expected a leaf that is searched \(.*\), found .*"),
        ({"model": "efn", "model[pfn].f_dropout": 0.1}, r"model\[pfn\]\.f_dropout: expected a leaf that is drawn beside .*"),
        ({"model": "efn", "model.latent_dropout": 0.75}, r"model\.latent_dropout: expected 0\.5 and steps of 0\.2, found 0\.75"),
        ({"training.epochs": 2.5}, r"training\.epochs: expected a whole number, found 2\.5"),
        ({"training.epochs": 4, "training.batch_size": 32}, r".*expected a valid experiment, found none: .* found training\.epochs = 4"),
    ],
)  # fmt: skip
def test_points_outside_the_space(make_template, point, sentence):
    model = (
        "model={choice: [{name: pfn, f_dropout: {uniform: [0, 0.2]}}, "
        "{name: efn, latent_dropout: {uniform: [0.5, 0.9], step: 0.2}}]}"
    )
    with pytest.raises(ExperimentError, match=rf"search\.start\.points\[0\](\.|: ){sentence}$"):
        make_template(
            model,
            BATCH,
            "training.epochs={int: [2, 4]}",
            'search.require=["training.epochs < 4"]',
            f"search.start.points=[{json.dumps(point)}]",
        )


def test_an_earlier_sweep_is_known_but_not_counted(make_template, tmp_path, earlier):
    old = earlier()
    searcher, report = later(make_template, tmp_path, NORMAL, BATCH, trials=2)
    assert report.sentences() == ["4 trials of old taken as known", "1 trial left out (1: has no result)"]
    taken = searcher.study.get_trials()
    assert [t.value for t in taken] == [0.9, 0.8, 0.7, 0.6]
    assert [t.state.name for t in taken] == ["COMPLETE"] * 3 + ["PRUNED"]
    assert {t.user_attrs["from_sweep"] for t in taken} == {"old"}
    assert [t.user_attrs["from_trial"] for t in taken] == [1, 0, 4, 2]
    assert taken[0].params == pytest.approx(old.study.get_trials()[1].params)
    assert own_trials(searcher.study) == []
    run(searcher, [("budget", 0.5), ("budget", 0.6)])
    assert searcher.suggest("2") == "FINISHED"
    assert [t.number for t in own_trials(searcher.study)] == [4, 5]
    assert best(list(searcher.trials.values()), searcher.search.objectives).number == 5


def test_a_resumed_sweep_takes_nothing_twice(make_template, tmp_path, earlier):
    earlier()
    searcher, _ = later(make_template, tmp_path, NORMAL, BATCH)
    report = warm_start(searcher.study, searcher.template, tmp_path / "runs")
    assert (report.taken, len(searcher.study.get_trials())) == (4, 4)


def test_the_best_of_it(make_template, tmp_path, earlier):
    earlier()
    searcher, report = later(make_template, tmp_path, NORMAL, BATCH, "search.start.trials=2")
    assert [t.value for t in searcher.study.get_trials()] == [0.9, 0.8]
    assert report.left_out == {"has no result": 1, "search.start.trials is 2": 2}


def test_another_normal_distribution_has_other_quantiles(make_template, tmp_path, earlier):
    old = earlier()
    searcher, _ = later(make_template, tmp_path, "model.f_dropout={normal: [0.2, 0.2], low: 0.0, high: 0.6}", BATCH)
    values = [trial.params["model.f_dropout"] for trial in old.trials.values()]
    from jetsweep.search.space import decode

    leaf = searcher.template.space["model.f_dropout"]
    taken = {
        t.user_attrs["from_trial"]: decode(leaf, t.params["model.f_dropout (quantile)"])
        for t in searcher.study.get_trials()
    }
    assert taken == pytest.approx({number: values[number] for number in (0, 1, 2, 4)})


def test_what_this_space_does_not_have_is_left_out(make_template, tmp_path, earlier):
    old = earlier()
    fixed = {trial.number for trial in old.trials.values() if trial.params["training.batch_size"] == 32}
    narrow, report = later(make_template, tmp_path, NORMAL, "training.batch_size={choice: [32, 96]}")
    assert {t.user_attrs["from_trial"] for t in narrow.study.get_trials()} == fixed - {3}
    assert report.left_out["training.batch_size is outside its range"] == len({0, 1, 2, 4} - fixed)


def test_a_leaf_that_is_fixed_now(make_template, tmp_path, earlier):
    earlier()
    searcher, report = later(make_template, tmp_path, NORMAL)
    assert searcher.study.get_trials() == []
    assert report.left_out["training.batch_size is no leaf of this space"] == 4


def test_a_leaf_that_was_fixed_then_and_other_settings(make_template, tmp_path, earlier):
    earlier()
    searcher, report = later(
        make_template, tmp_path, NORMAL, BATCH, "training.accumulate={choice: [1, 2]}", "training.epochs=7"
    )
    assert {t.params["training.accumulate"] for t in searcher.study.get_trials()} == {1}
    assert report.sentences()[-1] == "they differ from this experiment in training.epochs (2 → 7)"


def test_constraints_of_this_sweep_judge_earlier_trials(make_template, tmp_path, earlier):
    earlier()
    searcher, _ = later(make_template, tmp_path, NORMAL, BATCH, 'search.constraints=["parameters < 1500"]')
    complete = [t for t in searcher.study.get_trials() if t.state == TrialState.COMPLETE]
    assert [t.constraints["parameters < 1500"] <= 0 for t in complete] == [False, True, False]
    assert searcher.study.best_trial.user_attrs["from_trial"] == 0


def test_a_gaussian_process_goes_on_from_it(make_template, tmp_path, earlier):
    earlier()
    searcher, report = later(
        make_template, tmp_path, NORMAL, BATCH, 'search.constraints=["parameters < 1500"]', sampler="gp", trials=9
    )
    assert report.taken == 3
    assert report.left_out["did not train to its end, and gp learns from complete trials only"] == 1
    run(searcher, [("budget", 0.5 + 0.01 * i) for i in range(8)])
    assert searcher.suggest("8")["number"] == 11


def test_objectives_in_another_order(make_template, tmp_path, earlier):
    earlier("search.objectives=[{metric: val/loss, mode: min}, {metric: val/auc, mode: max}]")
    searcher, report = later(make_template, tmp_path, NORMAL, BATCH)
    assert [t.value for t in searcher.study.get_trials()] == [0.9, 0.8, 0.7]
    assert report.left_out["has no result"] == 2


def test_another_objective_is_refused(make_template, tmp_path, earlier):
    earlier()
    objective = "search.objectives=[{metric: val/loss, mode: min}]"
    with pytest.raises(ExperimentError, match=r"sweep: expected a sweep with the objectives val/loss, found val/auc$"):
        later(make_template, tmp_path, NORMAL, BATCH, objective)


def test_a_sweep_that_is_not_there(make_template, tmp_path, earlier):
    earlier()
    template = make_template("search.start.sweep=oldd", sampler="tpe")
    with pytest.raises(ExperimentError, match=r"search\.start\.sweep: .*, found 'oldd', did you mean 'old'\?$"):
        find_earlier(template, tmp_path / "runs")
    by_path = make_template(f"search.start.sweep={tmp_path / 'runs' / 'old'}", sampler="tpe")
    assert find_earlier(by_path, tmp_path / "nowhere") == tmp_path / "runs" / "old"
