"""Section `inputs` of weaver-core's data files: which columns are needed, and which feature set the features are.

The published sets are those of arXiv:1902.08570 and arXiv:2202.03772; what a branch means is told by its name, what is
computed by its formula, and every centre, scale and bound must be as published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from jetsweep.experiment._weaver_terms import Definitions, Term, call, name_of, operation
from jetsweep.experiment._yaml import Document, Path_

P4 = ("px", "py", "pz", "energy")
FLAGS = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
KIN = ("log_pt", "log_energy", "log_pt_rel", "log_energy_rel", "delta_r", "deta", "dphi")
GRADED = ("graded_charged_hadron", "graded_neutral_hadron")
SETS: dict[str, set[str]] = {
    "kin": {*KIN},
    "kinpid": {*KIN, "charge", *FLAGS},
    "kinpidplus": {*KIN, "charge", *GRADED, *FLAGS[2:]},
    "full": {*KIN, "charge", *FLAGS, "d0", "d0_err", "dz", "dz_err"},
}
"""Features of each set, in words of this file."""

SCALING: dict[str, tuple[float, float, float, float]] = {
    "log_pt": (1.7, 0.7, -5, 5),
    "log_energy": (2.0, 0.7, -5, 5),
    "log_pt_rel": (-4.7, 0.7, -5, 5),
    "log_energy_rel": (-4.7, 0.7, -5, 5),
    "delta_r": (0.2, 4.0, -5, 5),
    "d0_err": (0, 1, 0, 1),
    "dz_err": (0, 1, 0, 1),
}
"""Centre, scale and bounds; the other features have no centre, and then neither scale nor bounds."""

BRANCHES = {
    "d0_err": r"(d0|dxy)_?err",
    "dz_err": r"dz_?err",
    "deta": r"d_?eta|eta_?rel",
    "dphi": r"d_?phi|phi_?rel",
    "is_charged_hadron": r"is_?ch",
    "is_neutral_hadron": r"is_?n",
    "is_photon": r"is_?(photon|gamma)",
    "is_electron": r"is_?e",
    "is_muon": r"is_?mu",
    "charge": r"charge",
}
"""Names by which branches are told, the first that fits."""
GRADES = {
    GRADED[0]: ((211, 1.0), (321, 0.5), (2212, 0.2)),
    GRADED[1]: ((130, 1.0), (2112, 0.2)),
}
"""Particles by |id| and what they count in the graded flags of the quark-gluon set."""


@dataclass(frozen=True)
class Inputs:
    """What the section asks for.

    Parameters
    ----------
    features : str
        A feature set of jetsweep.
    constituents : dict
        Branch of each quantity.
    valid : str or None
        Branch that is true for real constituents.
    jet : dict
        Branches of the jet's pT and energy that features are relative to.
    length : int
    """

    features: str
    constituents: dict[str, str]
    valid: str | None
    jet: dict[str, str]
    length: int


def read_inputs(document: Document, definitions: Definitions) -> Inputs:
    """Read `inputs` and `preprocess`.

    Raises
    ------
    ExperimentError
        Naming the first group or variable that jetsweep has no equal for.
    """
    groups = _groups(document)
    constituents = _vectors(document, definitions, groups["vectors"])
    reader = _Features(document, definitions, constituents)
    features = reader.read(groups["features"])
    if "points" in groups:
        path = ("inputs", groups["points"])
        roles = [reader.role(str(name), (*path, "vars", i)) for i, (name, *_) in enumerate(_vars(document, *path))]
        if roles != ["deta", "dphi"]:
            raise document.error(path, "expected the points (deta, dphi), found others")
    valid = _mask(document, definitions, groups["mask"]) if "mask" in groups else None
    return Inputs(features, {**constituents, **reader.constituents}, valid, reader.jet, _length(document, groups))


def _groups(document: Document) -> dict[str, str]:
    """Group by kind: points, features, vectors, mask of one collection."""
    found: dict[str, str] = {}
    kinds, prefix = ("points", "features", "vectors", "mask"), None
    for key, group in (document.tree.get("inputs") or {}).items():
        before, _, kind = key.rpartition("_")
        prefix = before if prefix is None else prefix
        if kind not in kinds or before != prefix:
            wanted = ", ".join(f"{prefix}_{kind}" for kind in kinds)
            raise document.error(("inputs", key), f"expected one collection with the groups {wanted}, found {key!r}")
        if not isinstance(group, dict) or not isinstance(group.get("vars"), list) or not group["vars"]:
            raise document.error(("inputs", key), "expected the keys length, pad_mode and vars")
        for name in group:
            if name not in ("length", "pad_mode", "vars"):
                raise document.error(("inputs", key, name), "is not supported, expected length, pad_mode and vars")
        found[kind] = key
    for kind in ("features", "vectors"):
        if kind not in found:
            raise document.error(("inputs",), f"expected a group *_{kind}, found {', '.join(found.values()) or 'none'}")
    return found


def _vars(document: Document, *path: str) -> list[list[Any]]:
    node: Any = document.tree
    for key in path:
        node = node[key]
    return [entry if isinstance(entry, list) and entry else [entry] for entry in node["vars"]]


def _length(document: Document, groups: dict[str, str]) -> int:
    lengths = {key: document.tree["inputs"][key].get("length") for key in groups.values()}
    first = next(iter(lengths.values()))
    for key, length in lengths.items():
        if not isinstance(length, int) or length != first or length < 1:
            path = ("inputs", key, "length")
            raise document.error(path, f"expected a number above 0, the same in all groups, found {length!r}")
    assert isinstance(first, int)
    return first


def _vectors(document: Document, definitions: Definitions, key: str) -> dict[str, str]:
    entries = _vars(document, "inputs", key)
    if len(entries) != len(P4):
        raise document.error(("inputs", key), f"expected the four variables px, py, pz, energy, found {len(entries)}")
    found = {}
    for i, (name, entry) in enumerate(zip(P4, entries)):
        path: Path_ = ("inputs", key, "vars", i)
        if _scaling(document, entry, path) is not None:
            raise document.error(path, "expected a four-vector as it is, found a centre")
        found[name] = definitions.branch(entry[0], path, f"the branch of {name}")
    return found


def _mask(document: Document, definitions: Definitions, key: str) -> str | None:
    path: Path_ = ("inputs", key)
    entries = _vars(document, "inputs", key)
    term = definitions.term(str(entries[0][0]), path)
    if len(entries) == 1 and term[0] == "ones_like":
        return None  # momenta tell what is real
    if len(entries) == 1 and name_of(term) is not None:
        return name_of(term)
    raise document.error(path, "expected one mask: a branch, or ones_like of one")


def _scaling(document: Document, entry: list[Any], path: Path_) -> tuple[Any, ...] | None:
    """Centre, scale, lowest and highest value of a variable; None where it is taken as it is."""
    preprocess = document.tree.get("preprocess") or {}
    params = preprocess.get("params")
    stored = params.get(str(entry[0])) if isinstance(params, dict) else None
    if isinstance(stored, dict):
        values = [
            stored.get(key, default) for key, default in (("center", None), ("scale", 1), ("min", -5), ("max", 5))
        ]
        pad = stored.get("pad_value", 0)
    else:
        is_auto = str(preprocess.get("method", "manual")).lower().startswith("auto")
        values = [*entry[1:5], *[None, 1, -5, 5][len(entry[1:5]) :]]
        pad = entry[5] if len(entry) > 5 else 0
        if is_auto and len(entry) < 2:
            values[0] = "auto"
    if values[0] == "auto":
        raise document.error(
            path, "preprocess.method auto is not supported; expected a centre and a scale, or null as the centre"
        )
    if pad != 0:
        raise document.error(path, f"expected 0 as the value of padding, found {pad!r}")
    return None if values[0] is None else tuple(values)


class _Features:
    """Tells features apart; `constituents` and `jet` collect the branches that they need."""

    def __init__(self, document: Document, definitions: Definitions, p4: dict[str, str]) -> None:
        self._document, self._definitions = document, definitions
        self._pt = call("hypot", ("name", p4["px"]), ("name", p4["py"]))
        self._energy: Term = ("name", p4["energy"])
        self.constituents: dict[str, str] = {}
        self.jet: dict[str, str] = {}

    def read(self, key: str) -> str:
        """The feature set that a group is."""
        roles: list[str] = []
        for i, entry in enumerate(_vars(self._document, "inputs", key)):
            path: Path_ = ("inputs", key, "vars", i)
            role = self.role(str(entry[0]), path)
            found, wanted = _scaling(self._document, entry, path), SCALING.get(role)
            if found != wanted:
                shown = ["null, which is no scaling" if x is None else list(x) for x in (wanted, found)]
                raise self._document.error(
                    path, f"{entry[0]}: expected centre, scale, min and max {shown[0]}, found {shown[1]}"
                )
            if role in roles:
                raise self._document.error(path, f"expected every feature once, found {entry[0]} again")
            roles.append(role)
        for name, members in SETS.items():
            if members == set(roles):
                return name
        nearest = min(SETS, key=lambda name: len(SETS[name] ^ set(roles)))
        lacking, others = SETS[nearest] - set(roles), set(roles) - SETS[nearest]
        differs = [f"lacks {', '.join(sorted(lacking))}"] * bool(lacking)
        differs += [f"also has {', '.join(sorted(others))}"] * bool(others)
        raise self._document.error(
            ("inputs", key),
            f"expected one of the feature sets {', '.join(SETS)}; next to {nearest}, it {' and '.join(differs)}",
        )

    def role(self, name: str, path: Path_) -> str:
        """What a variable is.

        Raises
        ------
        ExperimentError
            If it is none of the published features.
        """
        term = self._definitions.term(name, path)
        found = self._computed(term) if name_of(term) is None else self._stored(name_of(term) or "")
        if found is None:
            raise self._document.error(
                path, f"expected a feature of {', '.join(SETS)}, found {self._definitions.text(name, path)!r}"
            )
        return found

    def _stored(self, branch: str) -> str | None:
        role = next((role for role, form in BRANCHES.items() if re.search(form, branch, re.IGNORECASE)), None)
        if role is not None and role not in ("deta", "dphi"):  # those are computed from the momenta
            self.constituents[role] = branch
        return role

    def _computed(self, term: Term) -> str | None:
        if term[0] == "log":
            return self._logarithm(term[1])
        if term[0] == "hypot" and {self._stored(name_of(x) or "") for x in term[1:]} == {"deta", "dphi"}:
            return "delta_r"
        branch = name_of(term[1]) if term[0] == "tanh" else None
        if branch is not None and self._stored(branch) is None:
            role = next((r for r, form in (("d0", r"d0|dxy"), ("dz", r"dz")) if re.search(form, branch.lower())), None)
            if role is not None:
                self.constituents[role] = branch
            return role
        for role in GRADES:
            for pid in _names_in(term):
                if term == _graded(role, pid):
                    self.constituents["pdg_id"] = pid
                    return role
        return None

    def _logarithm(self, inner: Term) -> str | None:
        jet = name_of(inner[2]) if inner[0] == "Div" else None
        numerator = inner if jet is None else inner[1]
        is_pt = numerator == self._pt or re.search(r"(^|_)pt$", name_of(numerator) or "", re.IGNORECASE) is not None
        if not is_pt and numerator != self._energy:
            return None
        kind = "pt" if is_pt else "energy"
        if jet is None:
            return f"log_{kind}" if inner[0] != "Div" else None
        self.jet[f"jet_{kind}"] = jet
        return f"log_{kind}_rel"


def _names_in(term: Term) -> set[str]:
    if term[0] == "name":
        return {term[1]}
    return set().union(*(_names_in(x) for x in term[1:] if isinstance(x, tuple) and x and isinstance(x[0], str)))


def _graded(role: str, pid: str) -> Term:
    """Sum over particles of (|id| == number) * grade."""
    parts = []
    for number, grade in GRADES[role]:
        is_it: Term = ("Compare", ("Eq",), call("abs", ("name", pid)), ("number", float(number)))
        parts.append(is_it if grade == 1 else operation("Mult", is_it, ("number", grade)))
    return operation("Add", *parts)
