import pytest

from jetsweep.errors import JetsweepError
from jetsweep.registry import Registry


def test_a_second_claim_to_a_name_is_an_error():
    registry: Registry[int] = Registry("thing", "jetsweep.tasks")
    registry.add("one")(1)
    with pytest.raises(ValueError, match="thing 'one' is registered twice"):
        registry.add("one")(2)


def test_unknown_name_lists_the_known_and_the_nearest():
    registry: Registry[int] = Registry("task", "jetsweep.tasks")
    with pytest.raises(
        JetsweepError,
        match="unknown task 'taging'; there are anomaly, flavour-tagging, tagging, weak-supervision, did you mean",
    ):
        registry.get("taging")


def test_names_are_public_files():
    names = Registry("model", "jetsweep.models").names()
    assert {"part", "particlenet", "pfn", "efn", "hldnn"} <= set(names)
    assert not [name for name in names if name.startswith("-")]


def test_broken_plugin_is_named(monkeypatch):
    class Point:
        name, value = "mine", "my_package.net"

        def load(self):
            raise ImportError("no module my_package")

    monkeypatch.setattr("jetsweep.registry.entry_points", lambda group: [Point()])
    with pytest.raises(
        JetsweepError, match=r"model 'mine' from my_package.net cannot be imported: no module my_package"
    ):
        Registry("model", "jetsweep.models").get("mine")
