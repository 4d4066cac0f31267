"""Whatever a cluster has and a sweep asks for: it ends, or is refused at once."""

import json
import os
import random
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

EXPERIMENT = """
name: test
task: {{name: tagging, signal: top}}
data: {{source: {{name: toy, jets: 200, seed: 1}}, max_constituents: 8}}
model: {{name: pfn, phi_sizes: [8], f_sizes: [8]}}
training: {{epochs: 2, batch_size: 24, optimizer: {{name: adamw, lr: {{log: [1e-3, 1e-2]}}}}}}
search: {{trials: 2, sampler: random, scheduler: {scheduler}}}
resources: {{workers: {workers}, cpus_per_worker: {cpus}, gpus_per_worker: 0, concurrent_trials: {concurrent}}}
"""

SCRIPT = """
import json, sys, time
from pathlib import Path
import ray
from jetsweep.errors import ResourceError
from jetsweep.experiment import load_experiment
from jetsweep.search.cluster import quiet
from jetsweep.search.listener import Listeners
from jetsweep.search.tune_run import run_sweep
root, cpus = Path(sys.argv[1]), int(sys.argv[2])
quiet()
ray.init(num_cpus=cpus, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
for file in sorted(root.glob("*.yaml")):
    began = time.monotonic()
    try:
        result = run_sweep(load_experiment(file), root / file.stem, root / "data", Listeners(), start_timeout_s=30)
        said = [trial.status for trial in result.trials]
    except ResourceError as error:
        said = str(error)
    states = {group["state"] for group in ray.util.placement_group_table().values()}
    print(json.dumps([file.stem, said, time.monotonic() - began, sorted(states)]), flush=True)
"""


def combinations(seed):
    """Random sweeps by the CPUs of the cluster that they are for."""
    rng = random.Random(seed)
    for cpus in (1, 2, 3):
        yield (
            cpus,
            [
                {
                    "workers": rng.choice((1, 1, 2, 3)),
                    "cpus": rng.choice((0.5, 1, 2)),
                    "concurrent": rng.choice(("auto", 1, 2, 4)),
                    "scheduler": rng.choice(("none", "asha", "median", "hyperband", "pbt")),
                }
                for _ in range(4)
            ],
        )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("cpus", "sweeps"), list(combinations(seed=8)))
def test_a_sweep_ends_or_is_refused_at_once(tmp_path, cpus, sweeps):
    for i, sweep in enumerate(sweeps):
        (tmp_path / f"{i}.yaml").write_text(EXPERIMENT.format(**sweep))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(cpus)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=800, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(rows) == len(sweeps)
    for sweep, (_, said, seconds, states) in zip(sweeps, rows, strict=True):
        groups = int(cpus / sweep["cpus"]) // sweep["workers"]
        fits = groups >= (1 if sweep["concurrent"] == "auto" else sweep["concurrent"])
        assert set(states) <= {"REMOVED"}
        if fits:
            assert len(said) == 2
            assert set(said) <= {"COMPLETE", "PRUNED"}, (sweep, said)
        else:
            assert said.startswith("resources")
            assert seconds < 10, sweep


def test_the_random_sweeps_are_of_both_kinds():
    kinds = {
        (sweep["workers"] > 1, int(cpus / sweep["cpus"]) // sweep["workers"] > 0)
        for cpus, sweeps in combinations(seed=8)
        for sweep in sweeps
    }
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}
