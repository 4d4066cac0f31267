"""Where a sweep's numbers come from: dataset digests, code, packages."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.data.dataset import open_dataset

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

PACKAGES = ("jetsweep", "torch", "numpy", "pyarrow", "ray", "optuna", "mlflow")


def environment_tags() -> dict[str, str]:
    """Versions of what determines a result, the machine's kind and the git commit of the working directory."""
    tags = {"jetsweep.python": platform.python_version(), "jetsweep.platform": platform.platform()}
    for package in PACKAGES:
        try:
            tags[f"jetsweep.version.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["jetsweep.git.clean"] = str(not _git("status", "--porcelain"))
    return tags


def installed_packages() -> str:
    """All installed packages, one ``name==version`` a line."""
    found = {f"{package.name}=={package.version}" for package in distributions()}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def describe_datasets(path: str) -> list[dict[str, str]]:
    """Splits of a dataset for its lineage; the digest is that of the manifest, which holds all checksums.

    Returns
    -------
    list of dict
        `name`, `digest`, `source` and `profile` (both JSON) and `context` (the split's role) of each split.
    """
    dataset = open_dataset(path)
    source = {"path": path, "source": dataset.manifest.source, "options": dataset.manifest.options}
    return [
        {
            "name": f"{Path(dataset.folder).name}/{split}"[:500],
            "digest": dataset.digest[:36],
            "source": json.dumps(source),
            "profile": json.dumps({"num_rows": dataset.num_rows(split), "classes": list(dataset.classes)}),
            "context": {"val": "validation"}.get(split, split),
        }
        for split in dataset.splits
    ]


def dataset_inputs(described: Sequence[Mapping[str, str]]) -> list[DatasetInput]:
    """What `describe_datasets` gave, as MLflow's dataset inputs."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            Dataset(
                name=split["name"],
                digest=split["digest"],
                source_type="local",
                source=split["source"],
                profile=split["profile"],
            ),
            [InputTag("mlflow.data.context", split["context"])],
        )
        for split in described
    ]
