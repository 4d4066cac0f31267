"""What a run says of its data."""

import json

from jetsweep import make_dataset
from jetsweep.tracking.lineage import describe_datasets


def test_a_dataset_is_described_by_its_folder_or_uri(tmp_path):
    dataset = make_dataset("toy", tmp_path / "jets", jets=200)
    for place in (dataset.path, f"file://{dataset.path}"):
        described = describe_datasets(place)
        assert [split["name"] for split in described] == ["jets/train", "jets/val", "jets/test"]
        assert {split["digest"] for split in described} == {dataset.digest[:36]}
        assert json.loads(described[0]["source"])["path"] == place
