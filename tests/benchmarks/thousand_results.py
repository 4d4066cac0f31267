"""Time of what looks at a large sweep, on a made-up one: no training, no Ray, no MLflow.

``python tests/benchmarks/thousand_results.py [trials] [epochs]`` writes the folder of a sweep as `jetsweep run` does
(settings, histories, results and the study's journal; no weights) and prints a markdown table. Each time is of a fresh
process, imports included.
"""

import datetime
import json
import math
import random
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.trial import TrialState

from jetsweep.experiment import load_experiment
from jetsweep.search.space import suggest
from jetsweep.search.study import STUDY_FILE, open_study
from jetsweep.training.run import TrainResult

GOAL_S = 5.0
RUNGS = (1, 3, 9, 27)
"""Epochs after which ASHA stops trials."""

MAIN = "from jetsweep.cli.main import main; "
COMMANDS = {
    "jetsweep compare": MAIN + "sys.argv[1:] = ['compare', sweep]; main()",
    "  of which reading the trials": "from jetsweep.tracking.results import read_sweep; read_sweep(Path(sweep))",
    "jetsweep compare --best": MAIN + "sys.argv[1:] = ['compare', sweep, '--best']; main()",
    "journal loaded": "from jetsweep.tracking.study import read_study; read_study(Path(sweep))",
    "pictures of the search": "from jetsweep.tracking.pictures import write_pictures; write_pictures(Path(sweep))",
    "report at the end of the sweep": "from jetsweep.tracking.report import write_report; "
    "write_report(Path(sweep), 'val/auc')",
    "only imports of the report": "import jetsweep.tracking.report, jetsweep.search.searcher, plotly.graph_objects",
}


def epoch_row(number: int, quality: float, stopped_because: str, rng: random.Random) -> dict[str, float | int | str]:
    """Metrics of one epoch as the loop writes them; `quality` is the AUC that it approaches."""
    auc = quality - 0.05 / number + rng.gauss(0, 1e-3)
    row: dict[str, float | int | str] = {"epoch": number, "step": 2000 * number, "samples_seen": 1_024_000 * number}
    row |= {"train/loss": 1.1 - auc, "val/loss": 1.12 - auc, "val/accuracy": auc - 0.05, "val/auc": auc}
    for efficiency in (0.3, 0.5, 0.8):
        rejection = (1 + rng.random()) * 20 / efficiency**3
        row[f"val/rejection_at_{efficiency}"] = rejection
        row[f"val/rejection_at_{efficiency}_error"] = rejection**1.5 / 300
    return row | {"lr": 1e-3 / number, "time/epoch_s": 60 + rng.random(), "stopped_because": stopped_because}


def write_trial(folder: Path, spec_json: str, params: dict, rows: list[dict], because: str, rng: random.Random) -> None:
    """Files of one trial; `because` is what the sweep says of its end."""
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(spec_json)
    (folder / "params.json").write_text(json.dumps(params))
    status = {"budget": "COMPLETE", "scheduler": "PRUNED", "error": "FAILED"}[because]
    error = "RuntimeError: CUDA error" if because == "error" else None
    (folder / "outcome.json").write_text(json.dumps({"status": status, "stopped_because": because, "error": error}))
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if error:
        (folder / "error.txt").write_text(f"{error}\n\nTraceback\n" + 40 * "  a line of it\n")
        return
    best = max(rows, key=lambda row: row["val/auc"])
    test = {name.replace("val/", "test/"): x for name, x in best.items() if name.startswith("val/")}
    timing = {"inference_us_per_jet": 10 + 100 * rng.random(), "inference_batch": 1000, "device": "NVIDIA H100, bf16"}
    ended = "asked" if because == "scheduler" else because
    result = TrainResult(ended, len(rows), best, test, None, rng.randint(40_000, 3_000_000), 61.0 * len(rows), timing)
    (folder / "result.json").write_text(json.dumps(asdict(result), indent=2))


def make_sweep(folder: Path, trials: int, epochs: int) -> None:
    """Folder of a sweep over architectures under ASHA: a third of the trials train to the end, one in fifty fails."""
    rng = random.Random(1)
    template = load_experiment("top-tagging-comparison.yaml", [f"training.epochs={epochs}", f"search.trials={trials}"])
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(template.to_json())
    (folder / "experiment.yaml").write_text(template.to_yaml())
    study = open_study(folder, template.search)
    study.sampler = optuna.samplers.RandomSampler(seed=1)
    for number in range(trials):
        asked, params = study.ask(), {}

        def ask(name, distribution, asked=asked, params=params):
            params[name] = suggest(asked, name, distribution)
            return params[name]

        experiment = template.draw(ask)
        because = "error" if number % 50 == 7 else "budget" if rng.random() < 0.35 else "scheduler"
        last = epochs if because == "budget" else min(epochs, rng.choice(RUNGS))
        quality = {"part": 0.985, "particlenet": 0.984, "pfn": 0.98}.get(experiment.model.name, 0.975)
        quality += rng.gauss(0, 2e-3)
        ends = ["" if epoch < last or because != "budget" else because for epoch in range(1, last + 1)]
        rows = [epoch_row(epoch, quality, end, rng) for epoch, end in enumerate(ends, start=1)]
        for row in rows:
            asked.report(row["val/auc"], row["epoch"])
        asked.set_user_attr("stopped_because", because)
        asked.set_user_attr("epoch", last)
        state = {"budget": TrialState.COMPLETE, "scheduler": TrialState.PRUNED, "error": TrialState.FAIL}[because]
        study.tell(asked, max(row["val/auc"] for row in rows) if because == "budget" else None, state)
        spec_json = experiment.trial_spec().model_dump_json(indent=2)
        write_trial(folder / "trials" / f"{number:05d}", spec_json, params, rows, because, rng)


def time_command(code: str, sweep: Path) -> float:
    """Seconds of a fresh process."""
    start = time.perf_counter()
    whole = f"import sys; from pathlib import Path; sweep = sys.argv[1]; {code}"
    done = subprocess.run([sys.executable, "-c", whole, str(sweep)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{code}: exit code {done.returncode}\n{done.stderr}")
    return time.perf_counter() - start


def main(trials: int, epochs: int, rounds: int = 3) -> None:
    """Make, measure and print."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="thousand-") as name:
        sweep = Path(name) / "sweep"
        start = datetime.datetime.now()
        make_sweep(sweep, trials, epochs)
        made_s = (datetime.datetime.now() - start).total_seconds()
        files = [path for path in sweep.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        journal = (sweep / STUDY_FILE).stat().st_size
        seconds = {what: min(time_command(code, sweep) for _ in range(rounds)) for what, code in COMMANDS.items()}
        page = (sweep / "plots" / "search.html").stat().st_size
    print(f"{trials} trials of up to {epochs} epochs, made in {made_s:.0f} s; best of {rounds} fresh processes\n")
    print("| what | s |\n|---|---|")
    for what, value in seconds.items():
        goal = f" (goal: {GOAL_S:g})" if what == "jetsweep compare" else ""
        print(f"| {what}{goal} | {value:.2f} |")
    print("\n| what | size |\n|---|---|")
    print(f"| files without weights | {len(files):,} files, {size / 1e6:.1f} MB |")
    print(f"| study.log | {journal / 1e6:.2f} MB, {math.ceil(journal / trials):,} bytes per trial |")
    print(f"| plots/search.html | {page / 1e6:.2f} MB |")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given or [1000, 50]))
