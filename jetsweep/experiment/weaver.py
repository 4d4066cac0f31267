"""weaver-core's data files as experiments: formulas are parsed and never run, what has no equal is refused by name."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jetsweep.experiment._weaver_inputs import read_inputs
from jetsweep.experiment._weaver_terms import Definitions
from jetsweep.experiment._yaml import Document, Origin, Path_, read_document

SECTIONS: dict[str, type] = {
    "treename": str, "selection": str, "new_variables": dict, "preprocess": dict, "inputs": dict, "labels": dict,
    "observers": list, "monitor_variables": list, "weights": dict,
}  # fmt: skip
WEIGHTS: dict[str, type] = {
    "use_precomputed_weights": bool, "weight_branches": list, "reweight_method": str, "reweight_vars": dict,
    "reweight_classes": list, "class_weights": list, "reweight_threshold": float, "reweight_basewgt": str,
    "reweight_discard_under_overflow": bool, "reweight_hists": dict,
}  # fmt: skip
WORDS = {str: "a word or a formula", dict: "a mapping", list: "a list", bool: "true or false", float: "a number"}
BEYOND = 1e30
"""An edge that no jet is beyond."""


@dataclass(frozen=True)
class Imported:
    """An experiment made from a weaver file.

    Parameters
    ----------
    tree : dict
    notes : tuple of str
        What is not the same as in weaver.
    """

    tree: dict[str, Any]
    notes: tuple[str, ...]

    def to_yaml(self, title: str) -> str:
        """The experiment file; its notes are comments at the top."""
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.default_flow_style = None
        yaml.width = 120
        stream = io.StringIO()
        yaml.dump(self.tree, stream)
        return "".join(f"# {line}\n" for line in (title, *self.notes)) + stream.getvalue()


def import_weaver(path: Path, place: Mapping[str, Any], model: str = "part") -> Imported:
    """Translate a data file of weaver-core.

    Parameters
    ----------
    path : Path
        The YAML file.
    place : mapping
        Where the ROOT files are: ``{"path": …}`` or ``{"files": {split: […]}}``; weaver takes them on its command line.
    model : str
        Network, which weaver has in a file of Python.

    Raises
    ------
    ExperimentError
        ``file:line: key: …`` for the first thing that jetsweep has no equal for.
    """
    from jetsweep.experiment._validate import validate_tree

    document = read_document(path)
    _check_keys(document, (), document.tree, SECTIONS)
    definitions, notes = Definitions(document), list[str]()
    inputs = read_inputs(document, definitions)
    jet = _jet_columns(document, definitions, inputs.jet)
    label = _labels(document, definitions)
    weight, reweight = _weights(document, definitions, jet, tuple(label["columns"]), notes)
    source: dict[str, Any] = {"name": "root", **place}
    given = {
        "tree": document.tree.get("treename"),
        "constituents": inputs.constituents,
        "valid": inputs.valid,
        "jet": jet,
        "label": label,
        "weight": weight,
        "select": _selection(document, definitions),
    }
    source |= {key: value for key, value in given.items() if value}
    is_stored = {"jet_pt", "jet_eta", "jet_phi", "jet_energy"} <= jet.keys()
    if inputs.jet and not is_stored:
        notes.append(
            "Features are relative to the sum of the constituents: the jet's pt, eta, phi and energy are not all there."
        )
    notes.append("pad_mode has no equal: padding never reaches a network.")
    tree = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem) or "weaver",
        "task": {"name": "tagging"},
        "data": {"source": source, "max_constituents": inputs.length, **({"reweight": reweight} if reweight else {})},
        "model": {"name": model, "features": inputs.features, **({"jet_axis": "stored"} if is_stored else {})},
    }
    validate_tree(tree, Document(tree, {(): Origin(str(path), 1)}), {})
    return Imported(tree, tuple(notes))


def _check_keys(document: Document, path: Path_, found: Mapping[str, Any], known: Mapping[str, type]) -> None:
    """Refuse keys that are not known, unless they are empty, and values of another kind."""
    for key, value in found.items():
        if value is None or value == [] or value == {}:
            continue
        if key not in known:
            raise document.error((*path, key), f"is not supported, expected {', '.join(known)}")
        kind = known[key]
        fits = (
            isinstance(value, int | float) and not isinstance(value, bool) if kind is float else isinstance(value, kind)
        )
        if not fits:
            raise document.error((*path, key), f"expected {WORDS[kind]}, found {value!r}")


def _jet_columns(document: Document, definitions: Definitions, known: Mapping[str, str]) -> dict[str, str]:
    """Jet scalars to keep: those of the features, and the observers; `fj_eta` beside a jet's `fj_pt` is its eta."""
    jet = dict(known)
    stem = known["jet_pt"].removesuffix("pt") if known.get("jet_pt", "").endswith("pt") else ""
    for section in ("observers", "monitor_variables"):
        for i, name in enumerate(document.tree.get(section) or []):
            branch = definitions.branch(name, (section, i))
            if branch in jet.values():
                continue
            kind = branch.removeprefix(stem) if stem and branch.startswith(stem) else ""
            key = f"jet_{kind}" if kind in ("pt", "eta", "phi", "mass", "energy") else branch
            if not key.isidentifier() or key in jet or key in ("label", "weight"):
                raise document.error((section, i), f"expected a name of its own for a jet scalar, found {branch!r}")
            jet[key] = branch
    return jet


def _labels(document: Document, definitions: Definitions) -> dict[str, Any]:
    labels = document.tree.get("labels") or {}
    if labels.get("type") != "simple":
        raise document.error(
            ("labels", "type"), f"expected simple, one column of 0 and 1 for every class, found {labels.get('type')!r}"
        )
    names = labels.get("value")
    if not isinstance(names, list) or len(names) < 2 or len(set(map(str, names))) < len(names):
        raise document.error(("labels", "value"), f"expected a list of at least two different columns, found {names!r}")
    return {"columns": {str(name): definitions.text(str(name), ("labels", "value", i)) for i, name in enumerate(names)}}


def _selection(document: Document, definitions: Definitions) -> str | None:
    text = document.tree.get("selection")
    return definitions.text(str(text), ("selection",)) if text else None


def _weights(
    document: Document, definitions: Definitions, jet: dict[str, str], classes: tuple[str, ...], notes: list[str]
) -> tuple[str | None, dict[str, Any] | None]:
    """Weight of a jet, and `data.reweight`; `jet` gains the variables that are needed."""
    weights = document.tree.get("weights")
    if not weights:
        return None, None
    _check_keys(document, ("weights",), weights, WEIGHTS)
    if weights.get("use_precomputed_weights"):
        branches = weights.get("weight_branches") or []
        if not branches:
            raise document.error(("weights",), "expected weight_branches beside use_precomputed_weights, found none")
        notes.append("Stored weights multiply the loss and the metrics, where weaver samples by them.")
        texts = [definitions.text(str(name), ("weights", "weight_branches", i)) for i, name in enumerate(branches)]
        return texts[0] if len(texts) == 1 else " * ".join(f"({text})" for text in texts), None
    base = weights.get("reweight_basewgt")
    if weights.get("reweight_hists"):
        notes.append("reweight_hists are made anew, from the training split.")
    if base:
        notes.append("reweight_basewgt also weighs the jets in the metrics.")
    return (
        definitions.text(str(base), ("weights", "reweight_basewgt")) if base else None,
        _reweight(document, definitions, weights, jet, classes),
    )


def _reweight(
    document: Document,
    definitions: Definitions,
    weights: Mapping[str, Any],
    jet: dict[str, str],
    classes: tuple[str, ...],
) -> dict[str, Any]:
    method, among = weights.get("reweight_method"), weights.get("reweight_classes") or []
    if method not in ("flat", "ref"):
        raise document.error(("weights", "reweight_method"), f"expected flat or ref, found {method!r}")
    for i, name in enumerate(among):
        if name not in classes:
            path: Path_ = ("weights", "reweight_classes", i)
            raise document.error(path, f"expected one of the labels {', '.join(classes)}, found {name!r}")
    shares = weights.get("class_weights") or [1.0] * len(among)
    are_shares = all(isinstance(x, int | float) and x >= 0 for x in shares)
    if not among or len(shares) != len(among) or not are_shares:
        raise document.error(("weights",), "expected reweight_classes, and for each a number in class_weights, or none")
    given = dict(zip(among, map(float, shares)))
    variables = {}
    for name, edges in (weights.get("reweight_vars") or {}).items():
        path = ("weights", "reweight_vars", name)
        if not isinstance(edges, list) or len(edges) < 2 or not all(isinstance(x, int | float) for x in edges):
            raise document.error(path, f"expected a list of bin edges, found {edges!r}")
        branch = definitions.branch(name, path)
        key = next((key for key, stored in jet.items() if stored == branch), branch)
        jet.setdefault(key, branch)
        if weights.get("reweight_discard_under_overflow", True) is False:
            edges = [-BEYOND, *edges[1:-1], BEYOND]  # what is beyond them counts in the outer bins
        variables[key] = [float(edge) for edge in edges]
    if not variables:
        raise document.error(("weights",), "expected reweight_vars, found none")
    return {
        "to": "flat" if method == "flat" else among[0],
        "variables": variables,
        "method": "sample",
        "percentile": float(weights.get("reweight_threshold", 10)),
        "class_weights": {name: given.get(name, 0.0) for name in classes if given.get(name, 0.0) != 1.0},
    }
