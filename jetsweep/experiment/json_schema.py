"""JSON schema of experiment files, for editors: every registered model, task and source; any leaf may be drawn."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from jetsweep.experiment._validate import REGISTRIES, config_class
from jetsweep.experiment.schema import Experiment

_WHEN = {
    "type": "object",
    "description": "Draw this only where each path has the value (or one of the listed values).",
    "examples": [{"model.name": "part"}],
}
_FIXED = frozenset(
    {
        "SearchConfig",
        "Objective",
        "StartConfig",
        "RepeatsConfig",
        "TrackingConfig",
        "ResourcesConfig",
        "SourceOptions",
    }
)
"""Sections that no trial may draw."""
_TWO_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_TWO_INTEGERS = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}


def _kind(name: str, value: dict[str, Any], description: str, **options: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": {name: value, **options, "when": _WHEN},
        "required": [name],
        "additionalProperties": False,
    }


_RANGES = [
    _kind(
        "int",
        _TWO_INTEGERS,
        "A whole number between two, both included.",
        step={"type": "integer", "minimum": 1},
        log={"type": "boolean"},
    ),
    _kind("uniform", _TWO_NUMBERS, "A number between two.", step={"type": "number", "exclusiveMinimum": 0}),
    _kind("log", _TWO_NUMBERS, "A number between two, uniform in its logarithm."),
    _kind(
        "normal", _TWO_NUMBERS, "A number around a mean: [mean, std].", low={"type": "number"}, high={"type": "number"}
    ),
]


def experiment_schema() -> dict[str, Any]:
    """Make the JSON schema (draft 2020-12) of experiment files."""
    definitions: dict[str, Any] = {"range": {"anyOf": _RANGES}}
    sections = _schema_of(Experiment, definitions, drawn=False)["properties"]
    sections["seed"] = _drawable(sections["seed"])
    for path, registry in REGISTRIES.items():
        names = registry.names()
        choices = [
            _reference(config_class(path, registry, name), definitions, drawn=path[0] != "data") for name in names
        ]
        union = {"anyOf": [{"enum": names}, *choices]}
        if path == ("data", "source"):
            definitions["DataConfig"]["properties"]["source"] = union
        else:
            sections[path[0]] = _drawable(union)
    for base in ("ModelConfig", "TaskConfig", "SourceOptions"):
        definitions.pop(base, None)  # the registered ones stand in their place
    profile = {"type": "object", "properties": sections, "additionalProperties": False}
    file_names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    properties = {
        **{key: {"$ref": f"#/$defs/sections/properties/{key}"} for key in sections},
        "extends": {**file_names, "description": "Files below this one: paths beside it, or names of shipped ones."},
        "profiles": {
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/sections"},
            "description": "Partial experiments by name; --profile NAME puts one on top. `laptop` is for no GPU.",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jetsweep experiment",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "anyOf": [{"required": ["name", "data", "task", "model"]}, {"required": ["extends"]}],
        "$defs": {"sections": profile, **definitions},
    }


def _reference(model: type[BaseModel], definitions: dict[str, Any], drawn: bool) -> dict[str, Any]:
    definitions[model.__name__] = _schema_of(model, definitions, drawn)
    return {"$ref": f"#/$defs/{model.__name__}"}


def _schema_of(model: type[BaseModel], definitions: dict[str, Any], drawn: bool) -> dict[str, Any]:
    """Schema of a model; what it refers to goes into `definitions`. `drawn`: its fields may be distributions."""
    schema = model.model_json_schema()
    for name, part in schema.pop("$defs", {}).items():
        if name not in definitions:
            fixed = name in _FIXED
            definitions[name] = _loosened(part, drawn=not fixed)
    loose: dict[str, Any] = _loosened(schema, drawn)
    return loose


def _loosened(schema: Any, drawn: bool) -> Any:
    """Drop what only a whole experiment must have (`required`), and let the fields be drawn."""
    if isinstance(schema, list):
        return [_loosened(item, drawn) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # a union of which several members fit a partial mapping is no mistake
    renamed = {"anyOf" if key == "oneOf" else key: value for key, value in schema.items()}
    loose = {
        key: _loosened(value, drawn) if key not in ("properties", "default") else value
        for key, value in renamed.items()
        if key not in ("required", "discriminator")
    }
    if "properties" in schema:
        loose["properties"] = {
            name: _drawable(_loosened(field, drawn)) if drawn and name != "name" else _loosened(field, drawn)
            for name, field in schema["properties"].items()
        }
    return loose


def _drawable(field: dict[str, Any]) -> dict[str, Any]:
    """A field, or a choice of several of its values, or a range where it is a number."""
    field = dict(field)
    notes: dict[str, Any] = {key: field.pop(key) for key in ("description", "default", "title") if key in field}
    alternatives = [
        field,
        _kind("choice", {"type": "array", "minItems": 1, "items": field}, "One of the listed values."),
    ]
    if _is_number(field):
        alternatives.append({"$ref": "#/$defs/range"})
    return {**notes, "anyOf": alternatives}


def _is_number(field: dict[str, Any]) -> bool:
    parts = [field, *field.get("anyOf", [])]
    return any(part.get("type") in ("number", "integer") for part in parts)
