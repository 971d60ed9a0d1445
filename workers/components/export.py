"""Writes ``registry.json``: the part of SecretFlow's component registry that forms, validation and documentation need.

Run it with SecretFlow installed, after a change of its version: ``python -m workers.components.export``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REGISTRY = Path(__file__).with_name("registry.json")
KINDS = {
    "AT_FLOAT": "number",
    "AT_INT": "integer",
    "AT_STRING": "text",
    "AT_BOOL": "boolean",
    "AT_PARTY": "party",
    "AT_STRUCT_GROUP": "group",
    "AT_UNION_GROUP": "choice",
    "AT_CUSTOM_PROTOBUF": "message",
}
#: Field of a component definition that holds a value of the kind.
PLACES = {"number": "f", "integer": "i64", "text": "s", "boolean": "b"}


def exported() -> dict[str, Any]:
    """Return all components by id without version, in alphabetical order."""
    from secretflow.component.core import get_comp_list_def
    from secretflow.version import __version__

    components = [_component(found) for found in get_comp_list_def().comps]
    return {
        "secretflow": __version__,
        "components": {c.pop("id"): c for c in sorted(components, key=lambda c: c["id"])},
    }


def _component(found: Any) -> dict[str, Any]:
    name = f"{found.domain}/{found.name}"
    return {
        "id": name,
        "version": found.version,
        "description": " ".join(found.desc.split()),
        "devices": _devices(f"{name}:{found.version}"),
        "attributes": [_attribute(a, found.attrs) for a in found.attrs if not a.prefixes and a.minor_max < 0],
        "inputs": [
            {
                "name": entry.name,
                "description": entry.desc,
                "kinds": list(entry.types),
                "columns": [
                    {
                        "name": a.name,
                        "description": a.desc,
                        "least": a.col_min_cnt_inclusive,
                        "most": a.col_max_cnt_inclusive or None,
                    }
                    for a in entry.attrs
                ],
            }
            for entry in found.inputs
        ],
        "outputs": [{"name": o.name, "description": o.desc, "kinds": list(o.types)} for o in found.outputs],
    }


def _devices(identifier: str) -> list[str]:
    """Return the devices that a component's code makes when it is evaluated, or loads a model with."""
    from secretflow_spec import Registry

    found = Registry.get_definition_by_id(identifier)
    source = inspect.getsource(found.component_cls)
    return [device for device in ("spu", "heu") if f"make_{device}(" in source]


def _attribute(found: Any, everything: Any) -> dict[str, Any]:
    from secretflow_spec.v1.component_pb2 import AttrType

    name = AttrType.Name(found.type)
    kind = KINDS.get(name.removesuffix("S"), "option")
    made: dict[str, Any] = {"name": found.name, "kind": kind, "description": " ".join(found.desc.split())}
    inside = [*found.prefixes, found.name]
    parts = [_attribute(a, everything) for a in everything if list(a.prefixes) == inside and a.minor_max < 0]
    if kind == "choice":
        return made | {"default": found.union.default_selection, "options": parts}
    if kind == "group":
        return made | {"fields": parts}
    if kind == "message":
        return made | {"fields": list(_fields(_descriptor(found.custom_protobuf_cls)))}
    if kind == "option":
        return made
    return made | dict(_limits(kind, name, found.atomic))


def _limits(kind: str, name: str, limits: Any) -> Iterator[tuple[str, Any]]:
    if name.endswith("S") or (kind == "party" and limits.list_max_length_inclusive != 1):
        yield "list", True
        yield "least", limits.list_min_length_inclusive
        yield "most", limits.list_max_length_inclusive if limits.list_max_length_inclusive > 0 else None
        if not limits.list_min_length_inclusive:
            yield "optional", True
    place = PLACES.get(kind)
    if limits.is_optional:
        yield "optional", True
    if place is None:
        return
    if limits.is_optional:
        many = list(getattr(limits.default_value, f"{place}s"))
        yield "default", many if name.endswith("S") else _exact(getattr(limits.default_value, place))
    values = limits.allowed_values
    if choices := [_exact(v) for v in getattr(values, f"{place}s", ())]:
        yield "choices", choices
    for side, bound in (("lower", "minimum"), ("upper", "maximum")):
        if getattr(limits, f"{side}_bound_enabled"):
            is_inclusive = getattr(limits, f"{side}_bound_inclusive")
            value = _exact(getattr(getattr(limits, f"{side}_bound"), place))
            yield bound if is_inclusive else f"exclusive_{bound}", value


def _exact(value: Any) -> Any:
    """Return a 32-bit float as it was written: 0.1, not 0.10000000149011612."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _descriptor(dotted: str) -> Any:
    from importlib import import_module

    module, _, name = dotted.partition(".")
    return getattr(import_module(f"secretflow.spec.extend.{module}"), name).DESCRIPTOR


def _fields(descriptor: Any) -> Iterator[dict[str, Any]]:
    """Yield a message's fields, with nested messages inside."""
    for found in descriptor.fields:
        made: dict[str, Any] = {"name": found.name, "list": found.label == found.LABEL_REPEATED}
        if found.message_type is not None:
            yield made | {"kind": "message", "fields": list(_fields(found.message_type))}
        elif found.enum_type is not None:
            yield made | {"kind": "text", "choices": [value.name for value in found.enum_type.values]}
        else:
            kind = {found.CPPTYPE_STRING: "text", found.CPPTYPE_BOOL: "boolean"}.get(found.cpp_type)
            is_float = found.cpp_type in (found.CPPTYPE_DOUBLE, found.CPPTYPE_FLOAT)
            yield made | {"kind": kind or ("number" if is_float else "integer")}


def as_text(registry: Mapping[str, Any]) -> str:
    """Return the text of the file."""
    return json.dumps(registry, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    REGISTRY.write_text(as_text(exported()))
