"""The page of a search: what counts on it, what is left out and why, and that it needs no network."""

import datetime
import html.parser
import json
import math
import random
import shutil
import subprocess

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from jetsweep.errors import TrackingError
from jetsweep.experiment.schema import SearchConfig
from jetsweep.search.study import STUDY_FILE, open_study
from jetsweep.tracking import _search_figures as figures
from jetsweep.tracking import _timeline
from jetsweep.tracking.pictures import pictures, write_pictures
from jetsweep.tracking.report import write_report
from jetsweep.tracking.results import TrialRecord
from jetsweep.tracking.study import end_of, read_storage, read_study

AUC = {"metric": "val/auc", "mode": "max"}
LOSS = {"metric": "val/loss", "mode": "min"}
BEGIN = datetime.datetime(2026, 11, 25, 1)
X = FloatDistribution(0.0, 1.0)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def trial(values, because="budget", state=TrialState.COMPLETE, params=None, number=0, **given):
    """A trial with leaves `params`: name → (value, distribution)."""
    params = {"x": (0.5, X)} if params is None else params
    made = create_trial(
        state=state,
        values=values,
        params={name: value for name, (value, _) in params.items()},
        distributions={name: spread for name, (_, spread) in params.items()},
        user_attrs={} if because is None else {"stopped_because": because, "epoch": 3},
        **given,
    )
    made.datetime_start = BEGIN + datetime.timedelta(minutes=number)
    if state.is_finished():
        made.datetime_complete = made.datetime_start + datetime.timedelta(seconds=150)
    return made


@pytest.fixture
def make_sweep(tmp_path):
    def make(trials, objectives=(AUC,), name="sweep"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "experiment.json").write_text(json.dumps({"search": {"objectives": list(objectives)}}))
        study = open_study(folder, SearchConfig(objectives=list(objectives)))
        study.add_trials(trials)
        return folder

    return make


def branched(number, objectives):
    """Complete trials of two architectures and, with better values than any of them, trials that do not count."""
    rng = random.Random(3)
    found = []
    for i in range(number):
        model = ("part", "pfn")[i % 2]
        params = {
            "model": (model, CategoricalDistribution(("part", "pfn"))),
            "training.optimizer.lr": (10 ** rng.uniform(-4, -2), FloatDistribution(1e-4, 1e-2, log=True)),
            "training.batch_size": (rng.choice([128, 256]), CategoricalDistribution((128, 256))),
        }
        if model == "part":
            params["model[part].num_layers"] = (rng.randint(2, 6), IntDistribution(2, 6))
        values = [rng.random(), rng.random(), rng.random()][:objectives]
        found.append(trial(values, params=params, number=i))
    best = [9.0, -9.0, 9.0][:objectives]
    given = {"intermediate_values": {1: 0.1, 2: 9.0}} if objectives == 1 else {}
    found.append(trial(None, "scheduler", TrialState.PRUNED, number=number, **given))
    found.append(trial(best, "diverged", number=number + 1))  # imputed
    found.append(trial(None, "error", TrialState.FAIL, number=number + 2))
    found.append(trial(None, None, TrialState.RUNNING, number=number + 3))
    return found


def shown(folder):
    return {picture.title: picture for picture in pictures(read_study(folder))}


def traces(picture):
    return {trace.name.partition(" (")[0]: trace for trace in picture.figure.data if trace.name}


@pytest.mark.parametrize("objectives", [[AUC], [AUC, LOSS], [AUC, LOSS, {"metric": "val/rejection_at_0.5"}]])
def test_every_picture_of_a_search_is_drawn(make_sweep, objectives):
    folder = make_sweep(branched(24, len(objectives)), objectives)
    made = shown(folder)
    assert {title: picture.reason for title, picture in made.items() if picture.reason} == {}
    if len(objectives) > 1:
        assert {f"Optimisation history: {o['metric']}" for o in objectives} < made.keys()
        assert "Pareto front" in made
    else:
        assert "Optimisation history" in made
        assert "Pareto front" not in made
    for title in ("Parameter importance", "Parameter importance: part", "Parameter importance: pfn", "Timeline"):
        assert title in made
    # leaves of the other branch are not there, nor is the branch itself
    assert made["Parallel coordinates"].figure.layout.xaxis.ticktext[-3:] == ("model", "batch_size", "lr")
    assert made["Parallel coordinates: part"].figure.layout.xaxis.ticktext[-3:] == ("num_layers", "batch_size", "lr")
    assert "Parallel coordinates: pfn" not in made  # it has no leaves of its own
    assert set(made["Parameter importance"].figure.data[0].y) == {"model", "num_layers (part)", "batch_size", "lr"}


def test_only_trials_that_trained_to_the_end_are_on_the_front(make_sweep):
    trials = branched(24, 2)
    folder = make_sweep(trials, [AUC, LOSS])
    values = [t.values for t in trials[:24]]
    front = {
        (a, b) for a, b in values if not any(c >= a and d <= b and (c, d) != (a, b) for c, d in values)
    }  # fmt: skip
    drawn = traces(shown(folder)["Pareto front"])
    assert set(zip(drawn["Pareto front"].x, drawn["Pareto front"].y)) == front
    assert len(drawn["Pareto front"].x) + len(drawn["beaten"].x) == 24
    assert read_study(folder).counted().best_trials == [t for t in read_study(folder).trials if t.values and (
        tuple(t.values) in front)]  # fmt: skip


def test_early_stopped_trials_are_shown_apart_and_never_best(make_sweep):
    folder = make_sweep(branched(24, 1))
    drawn = traces(shown(folder)["Optimisation history"])
    assert list(drawn["complete"].x) == list(range(24))
    assert max(drawn["best so far"].y) == max(drawn["complete"].y) < 1
    assert list(drawn["best so far"].y) == sorted(drawn["best so far"].y)
    assert (drawn["pruned, last value"].x, drawn["pruned, last value"].y) == ((24,), (9.0,))
    assert drawn["pruned, last value"].marker.symbol == "circle-open"
    assert "9.0" not in json.dumps([t.to_plotly_json()["y"] for t in shown(folder)["Parallel coordinates"].figure.data])
    times = traces(shown(folder)["Timeline"])
    assert {name: len(trace.y) for name, trace in times.items()} == {
        "complete": 24, "pruned": 1, "diverged": 1, "failed": 1, "unfinished": 1
    }  # fmt: skip


def test_with_several_objectives_the_folder_knows_what_an_early_stopped_trial_reached(make_sweep):
    view = read_study(make_sweep(branched(24, 2), [AUC, LOSS]))
    record = TrialRecord("sweep", 24, "pruned", "part", metrics={"val/auc": 0.7})
    drawn = {trace.name.partition(" (")[0]: trace for trace in figures.history(view, 0, {24: record}).data}
    assert drawn["pruned, last value"].y == (0.7,)
    assert not any("last value" in trace.name for trace in figures.history(view, 1, {24: record}).data)


def test_trials_that_overlap_have_rows_of_their_own(make_sweep):
    folder = make_sweep([trial([0.1], number=i) for i in range(5)])  # each lasts 2.5 minutes, one starts each minute
    assert traces(shown(folder)["Timeline"])["complete"].y == (1, 2, 3, 1, 2)


def test_importance_follows_the_direction_of_each_objective(make_sweep):
    """High values need `x` near 1 whatever `y`, low values need `y` near 1 whatever `x`."""
    rng = random.Random(1)
    trials = []
    for i in range(300):
        x, y = rng.random(), rng.random()
        value = 1.0 if x > 0.9 else -1.0 if y > 0.9 else 0.0
        value += 1e-3 * rng.random()
        trials.append(trial([value, value], params={"x": (x, X), "y": (y, X)}, number=i))
    for objectives, leaf in (([AUC], "x"), ([LOSS], "y")):
        single = [trial(t.values[:1], params={n: (t.params[n], X) for n in "xy"}, number=t.number) for t in trials]
        folder = make_sweep(single, objectives, f"single-{leaf}")
        (bars,) = figures.importance(read_study(folder), {}).data
        assert dict(zip(bars.y, bars.x))[leaf] > 0.8
    folder = make_sweep(trials, [AUC, LOSS], "both")
    bars = {trace.name: dict(zip(trace.y, trace.x)) for trace in figures.importance(read_study(folder), {}).data}
    assert bars["val/auc"]["x"] > 0.8
    assert bars["val/loss"]["y"] > 0.8
    assert bars.keys() == {"Pareto front", "val/auc", "val/loss"}


CONSTANT = [trial([0.5], params={"x": (i / 20, X), "y": (1 - i / 20, X)}, number=i) for i in range(20)]


@pytest.mark.parametrize(
    ("trials", "reasons"),
    [
        ([], {
            "Optimisation history": "no trial has reported val/auc",
            "Parallel coordinates": "lines to compare needs at least 2 trials that trained to the end, none did",
            "Timeline": "no trial has begun",
        }),
        ([trial([0.5])], {
            "Parallel coordinates": "lines to compare needs at least 2 trials that trained to the end, 1 did",
            "Parameter importance": "importance compares leaves, and fewer than two vary here",
        }),
        ([trial(None, "scheduler", TrialState.PRUNED, intermediate_values={1: 0.5}) for _ in range(3)], {
            "Parallel coordinates": "lines to compare needs at least 2 trials that trained to the end, none did",
        }),
        ([trial([0.1 * i], params={"x": (0.1 * i, X)}, number=i) for i in range(9)], {
            "Parameter importance": "importance compares leaves, and fewer than two vary here",
        }),
        ([trial([0.1 * i], params={}, number=i) for i in range(9)], {
            "Parallel coordinates": "the space has no leaf that varies",
        }),
        (CONSTANT, {
            "Parameter importance": "all trials are equally good, so no leaf is more important than another",
        }),
        (CONSTANT[:5], {
            "Parameter importance": "importance needs at least 8 trials that trained to the end, 5 did",
        }),
    ],
    ids=["empty", "one", "none complete", "one leaf", "no leaf", "constant", "few"],
)  # fmt: skip
def test_what_cannot_be_drawn_is_left_out_with_the_reason(make_sweep, trials, reasons):
    folder = make_sweep(trials)
    left_out = {title: picture.reason for title, picture in shown(folder).items() if picture.figure is None}
    assert reasons.items() <= left_out.items()
    assert not any("could not be drawn" in reason for reason in left_out.values())
    text = write_pictures(folder).read_text()
    for reason in reasons.values():
        assert f"Left out: {reason}." in text


def test_a_picture_that_breaks_does_not_take_the_page_with_it(make_sweep, monkeypatch):
    def broken(view):
        raise ZeroDivisionError("nothing to divide")

    monkeypatch.setattr(_timeline, "timeline", broken)
    picture = shown(make_sweep([trial([0.5])]))["Timeline"]
    assert picture.reason == "it could not be drawn (ZeroDivisionError: nothing to divide)"


def test_a_combination_that_is_no_experiment_is_no_early_stop(make_sweep):
    invalid = create_trial(state=TrialState.PRUNED, user_attrs={"error": "num_heads does not divide"})
    assert end_of(invalid) == "invalid"
    assert end_of(trial([math.inf])) == "diverged"
    assert end_of(trial([0.5], None)) == "complete"  # from an earlier study


def test_a_trial_that_breaks_a_constraint_is_not_best(make_sweep):
    over = trial([0.9], number=1, constraints={"parameters": 3.0})
    folder = make_sweep([trial([0.5], constraints={"parameters": -1.0}), over])
    drawn = traces(shown(folder)["Optimisation history"])
    assert max(drawn["best so far"].y) == 0.5
    assert drawn["breaks a constraint"].y == (0.9,)
    assert "Best: trial 0, val/auc = 0.5;" in write_pictures(folder).read_text()


class Places(html.parser.HTMLParser):
    """Addresses that a page would load."""

    def __init__(self):
        super().__init__()
        self.found, self.scripts = [], 0

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.found += [value for name, value in attributes if name in ("src", "href", "data", "srcset")]


def test_the_page_is_one_file_that_loads_and_sends_nothing(make_sweep):
    label = "</script><b>&"
    params = {"model": (label, CategoricalDistribution((label, "pfn"))), "x": (0.5, X)}
    trials = [trial([0.1 * i], params=params | {"x": (0.1 * i, X)}, number=i) for i in range(9)]
    path = write_pictures(make_sweep(trials))
    text = path.read_text()
    places = Places()
    places.feed(text)
    assert places.found == []
    assert '"showSendToCloud": false' in text
    assert text.count("plotly.js v") == 1
    assert len(text) < 6_000_000
    assert label not in text
    assert places.scripts == 2 + text.count("<script>draw(")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_draws_it(make_sweep, tmp_path):
    path = write_pictures(make_sweep(branched(24, 2), [AUC, LOSS]))
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *words, "--virtual-time-budget=20000", path.as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    assert done.stdout.count('class="js-plotly-plot"') == path.read_text().count("<script>draw(") == 9


def test_looking_writes_nothing(make_sweep, tmp_path):
    folder = make_sweep([trial([0.5])])
    before = (folder / STUDY_FILE).read_bytes()
    write_pictures(folder)
    with pytest.raises(TrackingError, match=r"study.log: only looked at; nothing is written"):
        read_storage(folder).delete_study(0)
    assert (folder / STUDY_FILE).read_bytes() == before
    assert not list(folder.glob("*.lock"))
    (tmp_path / "other").mkdir()
    with pytest.raises(TrackingError, match=r"other: expected a sweep with a study \(study.log\), found none"):
        write_pictures(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_a_study_that_is_none(make_sweep):
    folder = make_sweep([])
    (folder / STUDY_FILE).write_text("")
    with pytest.raises(TrackingError, match="expected a study, the journal is empty"):
        read_study(folder)
    (folder / STUDY_FILE).write_text("nonsense\nnonsense\n")
    with pytest.raises(TrackingError, match="expected an Optuna journal, it cannot be read"):
        read_study(folder)
    other = make_sweep([], [AUC, LOSS], "other")
    (other / "experiment.json").write_text("{}")
    with pytest.raises(TrackingError, match=r"expected a study of 1 objectives as in experiment\.json, found 2"):
        read_study(other)


def test_names_of_leaves_are_as_short_as_they_can_be():
    names = ["training.optimizer.lr", "model[part].lr", "model[part].num_layers", "model", "seed.seed", "seed"]
    assert figures.short_names(names) == {
        "training.optimizer.lr": "optimizer.lr",
        "model[part].lr": "model[part].lr",
        "model[part].num_layers": "num_layers (part)",
        "model": "model",
        "seed.seed": "seed.seed",
        "seed": "seed",
    }
    assert figures.short_names(["model[part].num_layers"], {"model": "part"}) == {
        "model[part].num_layers": "num_layers"
    }


def test_the_report_has_the_page_if_there_was_a_search(toy_sweep, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(toy_sweep[0], folder)
    write_report(folder, "val/auc")
    assert not (folder / "plots" / "search.html").exists()
    open_study(folder, SearchConfig()).add_trial(trial([0.9]))
    write_report(folder, "val/auc")
    assert "Search of toy" in (folder / "plots" / "search.html").read_text()
