"""Changes of an OpenAPI document that may break a service which was written for the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")
#: What a schema is made of.
PARTS = ("oneOf", "anyOf", "allOf")


def breaking(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return each change that may break a service, as a line that says where it is. What is added breaks nothing,
    except where a request has to have it."""
    return sorted(set(_Comparison(old, new).changes()))


class _Comparison:
    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.old, self.new = old, new
        #: Components that are compared already, each with its direction: they may contain themselves.
        self._seen: set[tuple[str, str, bool]] = set()

    def changes(self) -> Iterator[str]:
        for path, item in self.old["paths"].items():
            for method in METHODS:
                if method not in item:
                    continue
                found = self.new["paths"].get(path, {}).get(method)
                at = f"{method.upper()} {path}"
                if found is None:
                    yield f"{at}: removed"
                else:
                    yield from self._operation(at, item[method], found)

    def _operation(self, at: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"{at}: is called {new['operationId']}, was {old['operationId']}"
        yield from self._parameters(at, old, new)
        yield from self._content(f"{at} request", old.get("requestBody", {}), new.get("requestBody", {}), True)
        if new.get("requestBody", {}).get("required") and not old.get("requestBody", {}).get("required"):
            yield f"{at} request: is required"
        for code, answer in old["responses"].items():
            if not code.startswith("2"):
                continue
            if code not in new["responses"]:
                yield f"{at} {code}: removed"
                continue
            yield from self._content(f"{at} {code}", answer, new["responses"][code], False)

    def _parameters(self, at: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
        before = {(p["in"], p["name"]): p for p in (_of(self.old, p) for p in old.get("parameters", ()))}
        after = {(p["in"], p["name"]): p for p in (_of(self.new, p) for p in new.get("parameters", ()))}
        for key, parameter in before.items():
            here = f"{at} {key[0]} {key[1]}"
            if key not in after:
                yield f"{here}: removed"
            else:
                yield from self._schema(here, parameter["schema"], after[key]["schema"], True)
        for key, parameter in after.items():
            if parameter.get("required") and not before.get(key, {}).get("required"):
                yield f"{at} {key[0]} {key[1]}: is required"

    def _content(self, at: str, old: Any, new: Any, is_request: bool) -> Iterator[str]:
        before, after = _of(self.old, old).get("content", {}), _of(self.new, new).get("content", {})
        for media_type, part in before.items():
            if media_type not in after:
                yield f"{at}: no {media_type}"
            elif "schema" in part:
                yield from self._schema(at, part["schema"], after[media_type].get("schema", {}), is_request)

    def _schema(self, at: str, old: Any, new: Any, is_request: bool) -> Iterator[str]:
        """Yield the changes of a schema. What is a component is told by its name, and told once."""
        name = old.get("$ref", "").rpartition("/")[2]
        if name:
            key = (name, new.get("$ref", "").rpartition("/")[2], is_request)
            if key in self._seen:
                return
            self._seen.add(key)
            at = f"{'request' if is_request else 'answer'} {name}"
        old, new = _of(self.old, old), _of(self.new, new)
        yield from self._values(at, old, new, is_request)
        before, after = old.get("properties", {}), new.get("properties", {})
        for field, schema in before.items():
            if field not in after:
                yield f"{at}.{field}: removed"
            else:
                yield from self._schema(f"{at}.{field}", schema, after[field], is_request)
        needed, told = {*new.get("required", ())}, {*old.get("required", ())}
        # A service must send what is required newly; it may miss what an answer need not have any more
        for field in sorted(needed - told if is_request else (told - needed) & {*after}):
            yield f"{at}.{field}: {'is required' if is_request else 'may be missing'}"
        if isinstance(old.get("items"), Mapping) and isinstance(new.get("items"), Mapping):
            yield from self._schema(f"{at}[]", old["items"], new["items"], is_request)
        for part in PARTS:
            for index, (one, other) in enumerate(zip(old.get(part, ()), new.get(part, ()), strict=False)):
                yield from self._schema(f"{at} {part} {index}", one, other, is_request)
            if len(old.get(part, ())) > len(new.get(part, ())):
                yield f"{at}: fewer {part}"

    @staticmethod
    def _values(at: str, old: Mapping[str, Any], new: Mapping[str, Any], is_request: bool) -> Iterator[str]:
        before, after = _types(old), _types(new)
        # A request may have what it could have; an answer has nothing that it could not have
        if (before - after if is_request else after - before) and before and after:
            yield f"{at}: is {' or '.join(sorted(after))}, was {' or '.join(sorted(before))}"
        for value in old.get("enum", ()):
            if "enum" in new and value not in new["enum"]:
                yield f"{at}: no {value}"
        if is_request:
            if "enum" in new and "enum" not in old:
                yield f"{at}: only some values"
            for limit, grows in (("minimum", True), ("minLength", True), ("maximum", False), ("maxLength", False)):
                if limit in new and (
                    limit not in old or (new[limit] > old[limit] if grows else new[limit] < old[limit])
                ):
                    yield f"{at}: {limit} is {new[limit]}, was {old.get(limit)}"


def _of(document: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part, without a reference at its top."""
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def _types(schema: Mapping[str, Any]) -> set[str]:
    found = schema.get("type", ())
    return {found} if isinstance(found, str) else {*found}
