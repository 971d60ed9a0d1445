"""The OpenAPI description of an operation: what follows from the classes that its view is made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, force_instance
from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated

from controlplane.api import shared
from controlplane.api.errors import MEDIA_TYPE, ErrorBody
from controlplane.api.examples import answer_of, requests_of
from controlplane.api.fields import KnownKeysOnly, NameOrId
from controlplane.api.query import FIELDS, StrictQuery
from controlplane.api.versions import TaggedByVersion
from controlplane.api.writes import DRY_RUN, KEY, Writes

#: What every operation begins with.
ROOT = "/api/v1/"
STREAM, JSON = "text/event-stream", "application/json"
#: By action: the summary, and the description where the view says nothing.
STANDARD = {
    "list": ("List {many}", "Returns the {many} that you may see, a page at a time. Follow `next` to the next page."),
    "create": ("Add {one}", "Adds {one}. The answer names its address as `Location`."),
    "retrieve": ("Read {one}", "Returns {one}."),
    "update": ("Replace {one}", "Replaces {one}: the body has every required field. Other fields keep their values."),
    "partial_update": ("Change {one}", "Changes those fields of {one} that the body names."),
    "destroy": ("Delete {one}", "Deletes {one}. While something uses it, the answer is 409 and names that."),
}
_METHODS = {"GET": "retrieve", "PUT": "update", "PATCH": "partial_update", "POST": "create", "DELETE": "destroy"}


class Schema(AutoSchema):  # type: ignore[misc, unused-ignore]
    """Adds parameters, headers, problems and examples to what drf-spectacular finds by itself."""

    # What it is called

    @property
    def _segments(self) -> list[str]:
        return self.path.removeprefix(ROOT).strip("/").split("/")

    @property
    def _action(self) -> str:
        return getattr(self.view, "action", None) or (
            self._segments[1] if len(self._segments) > 1 else _METHODS[self.method]
        )

    def get_operation_id(self) -> str:
        return f"{self._segments[0]}_{self._action}".replace("-", "_")

    def get_tags(self) -> list[str]:
        return [self._segments[0]]

    def get_summary(self) -> str | None:
        return self._worded(0) if self._action in STANDARD else None

    def get_description(self) -> str:  # type: ignore[override]
        said = self._said()
        return said or (self._worded(1) if self._action in STANDARD else "")

    def _said(self) -> str:
        """Return what the view's own method says, as one paragraph."""
        handler = getattr(type(self.view), getattr(self.view, "action", None) or self.method.lower(), None)
        own = inspect.cleandoc(getattr(handler, "__doc__", None) or "")
        return re.sub(r"(?<!\n)\n(?!\n)", " ", own)

    def _worded(self, part: int) -> str:
        view: Any = self.view
        meta = view.queryset.model._meta
        one, many = str(meta.verbose_name), str(meta.verbose_name_plural)
        vowel = one[0] in "aeiou" or (one[1].isupper() and one[0] in "AEFHILMNORSX")
        is_only = self._action != "create" and "{" not in self.path
        article = "the" if is_only else "an" if vowel else "a"
        return STANDARD[self._action][part].format(one=f"{article} {one}", many=many)

    # What is sent

    def _get_parameters(self) -> list[dict[str, Any]]:
        found = super()._get_parameters()
        for parameter in found:
            if parameter["in"] == "path":
                is_key = parameter["schema"].get("format") == "uuid"
                parameter["example"] = shared.UUID if is_key else int(parameter["name"] != "number")
                parameter["description"] = "Its number, from 0." if parameter["name"] == "number" else "Its id."
            elif not parameter.get("description"):
                parameter["description"] = shared.ABOUT.get(parameter["name"], "")
        return sorted([*found, *self._further_parameters()], key=lambda each: (each["in"] != "path", each["name"]))

    def _further_parameters(self) -> Iterator[dict[str, Any]]:
        if self._is_write and isinstance(self.view, Writes):
            yield shared.query(DRY_RUN, {"type": "boolean", "default": False}, shared.ABOUT_DRY_RUN)
            yield shared.header(KEY, {"type": "string", "pattern": "^[ -~]{1,255}$"}, shared.ABOUT_KEY)
        if self._takes_version:
            yield shared.header("If-Match", {"type": "string"}, shared.ABOUT_IF_MATCH)
        if self._may_be_unchanged:
            yield shared.header("If-None-Match", {"type": "string"}, shared.ABOUT_IF_NONE_MATCH)
        if not isinstance(self.view, StrictQuery):
            return
        if self._action == "list" and self.view.orderings:
            yield shared.query("ordering", {"type": "string", "enum": [*self.view.orderings]}, shared.ABOUT_ORDERING)
        row = force_instance(self.get_response_serializers())
        row = getattr(row, "child", row)
        if FIELDS in self.view.parameters(self.view.request) and hasattr(row, "fields"):
            names = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": [*row.fields]}}
            yield shared.query(FIELDS, names, shared.ABOUT_FIELDS) | {"style": "form", "explode": False}

    @property
    def _is_write(self) -> bool:
        return self.method not in SAFE_METHODS

    @property
    def _takes_version(self) -> bool:
        return isinstance(self.view, TaggedByVersion) and self.method in ("PUT", "PATCH", "DELETE")

    @property
    def _may_be_unchanged(self) -> bool:
        return self.method == "GET" and self.map_renderers("media_type") != [STREAM]

    def _map_basic_serializer(self, serializer: Any, direction: str) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)
        if direction == "request" and isinstance(serializer, KnownKeysOnly):
            schema["additionalProperties"] = False
        if direction == "response":
            schema["required"] = sorted(schema["properties"])
        for found in schema["properties"].values():
            if {} in found.get("oneOf", ()):  # any JSON, null or not
                del found["oneOf"]
        schema.pop("description", None)
        if own := type(serializer).__dict__.get("__doc__"):  # not of what it is made of
            schema["description"] = " ".join(own.split())
        return schema

    def _map_serializer(self, serializer: Any, direction: str, bypass_extensions: bool = False) -> Any:
        schema = super()._map_serializer(serializer, direction, bypass_extensions)
        if isinstance(serializer, PolymorphicProxySerializer):  # what is told in full fits the brief form, too
            return {"anyOf": schema["oneOf"]}
        return schema

    def _map_serializer_field(self, field: Any, direction: str, bypass_extensions: bool = False) -> Any:
        if direction == "response" and isinstance(field, NameOrId | serializers.SlugRelatedField):
            parent: Any = field.parent
            related = parent.Meta.model._meta.get_field(field.source)
            told = {"description": str(field.help_text)} if field.help_text else {}
            return {"type": ["string", "null"] if related.null else "string"} | told
        return super()._map_serializer_field(field, direction, bypass_extensions)

    # What is answered

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        responses = operation["responses"]
        declared = {int(code) for code in responses if int(code) >= 400}
        problems = sorted(declared | {*self._problems("requestBody" in operation)})
        answers = {code: answer for code, answer in responses.items() if int(code) < 400}
        for code, answer in answers.items():
            self._complete(int(code), answer, operation["operationId"])
        if {"200", "201"} <= {*answers}:  # what is submitted has a dry run of its own form
            answers["200"]["description"] = shared.DRY_RUN
            for content in answers["200"]["content"].values():
                content["example"] = answer_of(f"{operation['operationId'].rpartition('_')[0]}_dry_run", 200, JSON)
        if self._may_be_unchanged:
            answers["304"] = self._component("responses", "Unchanged", shared.UNCHANGED)
        operation["responses"] = dict(sorted(answers.items())) | {str(code): self._problem(code) for code in problems}
        self._add_requests(operation)
        if parameters := operation.get("parameters"):
            operation["parameters"] = [self._named(each) for each in parameters]
        return dict(operation)

    def _named(self, parameter: dict[str, Any]) -> dict[str, Any]:
        """Return a reference where many operations have the same parameter."""
        is_shared = parameter["name"] in (DRY_RUN, KEY, "If-Match", "If-None-Match")
        return self._component("parameters", parameter["name"], parameter) if is_shared else parameter

    def _problems(self, has_body: bool) -> Iterator[int]:
        """Yield the statuses of the problems that this operation can answer."""
        yield from (400, 401, 406, 500, 503)
        by_session = any(isinstance(found, SessionAuthentication) for found in self.view.get_authenticators())
        if by_session or any(type(found) is not IsAuthenticated for found in self.view.get_permissions()):
            yield 403
        if "{" in self.path or "cursor" in {parameter["name"] for parameter in self._get_parameters()}:
            yield 404
        if self._is_write and (has_body or isinstance(self.view, Writes)):
            yield from (413, 415)
        if self._is_write and isinstance(self.view, Writes):
            yield from (409, 422)
        if self._takes_version:
            yield 412

    def _problem(self, code: int) -> dict[str, Any]:
        name, description, headers = shared.PROBLEMS[code]
        body = self.resolve_serializer(ErrorBody, "response").ref
        content = {MEDIA_TYPE: {"schema": body, "example": shared.problem_example(code)}}
        told = {header: self._header(header) for header in ("X-Request-ID", *headers)}
        return self._component("responses", name, {"description": description, "headers": told, "content": content})

    def _complete(self, code: int, answer: dict[str, Any], operation_id: str) -> None:
        answer["description"] = shared.DESCRIPTIONS.get(code, "") if answer.get("content") else shared.EMPTY
        answer["headers"] = {name: self._header(name) for name in self._headers(code, answer)}
        for media_type, content in answer.get("content", {}).items():
            if media_type == STREAM:
                content["schema"] = {"type": "string"}
            if (example := answer_of(operation_id, code, media_type)) is not None:
                content["example"] = example
        if code == 201 and (links := dict(self._links())):
            answer["links"] = links

    def _headers(self, code: int, answer: Mapping[str, Any]) -> Iterator[str]:
        yield "X-Request-ID"
        if self._is_write and isinstance(self.view, Writes):
            yield from ("Idempotency-Replayed", "Dry-Run")
        of_version = isinstance(self.view, TaggedByVersion) and self._action in STANDARD and code != 204
        if self._may_be_unchanged or (of_version and self._is_write):
            yield "ETag"
        if code == 201:
            yield "Location"
        if self._action in getattr(self.view, "paged", ()):
            yield "Link"

    def _links(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what can be done next with something new."""
        of_one = [name for name in ("retrieve", "update", "partial_update", "destroy") if hasattr(self.view, name)]
        for action in self.view.get_extra_actions() if hasattr(self.view, "get_extra_actions") else ():
            if action.detail and "(" not in action.url_path:
                of_one.append(action.__name__)
        for name in of_one:
            target = f"{self._segments[0]}_{name}".replace("-", "_")
            yield name, {"operationId": target, "parameters": {"id": "$response.body#/id"}}

    def _add_requests(self, operation: dict[str, Any]) -> None:
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if found := requests_of(operation["operationId"]):
                content["examples"] = {
                    name.replace(" ", "_"): {"summary": name, "value": body} for name, body in found.items()
                }

    def _header(self, name: str) -> dict[str, Any]:
        return self._component("headers", name, shared.HEADERS[name])

    def _component(self, kind: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        component = ResolvedComponent(name=name, type=kind, schema=dict(schema), object=name)
        self.registry.register_on_missing(component)
        return dict(component.ref)
