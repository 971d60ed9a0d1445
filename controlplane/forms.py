"""Form fields for documents: edited in the browser by django-jsonform, from the pydantic models' JSON Schema."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django_jsonform.constants import JOIN_SYMBOL
from django_jsonform.widgets import JSONFormWidget

from controlplane.form_schema import fitted, pruned
from controlplane.storable import unstorable

Schema = dict[str, Any]


class DocumentWidget(JSONFormWidget):
    """Shows whatever it is given: a value that does not fit the schema would leave the browser with an empty page."""

    schema: Schema

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        try:
            document = json.loads(value) if value else {}
        except (ValueError, RecursionError):
            document = {}
        self.schema = deepcopy(self.schema)
        return super().render(name, json.dumps(fitted(document, self.schema)), attrs, renderer)


class DocumentFormField(forms.JSONField):
    """What the browser sends, with everything left empty left out."""

    widget = DocumentWidget

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"widget": DocumentWidget(schema={"type": "object"}), "required": False, **kwargs})
        # the labels are inside the widget
        self.empty_values = [None, ""]

    @property
    def schema(self) -> Schema:
        schema: Schema = getattr(self.widget, "schema", {})  # a plain text area has none
        return schema

    def to_python(self, value: Any) -> Any:
        try:
            document = super().to_python(value)
        except (ValueError, RecursionError):
            raise ValidationError("Enter a valid JSON document.", code="invalid") from None
        if problems := [str(p) if p.path else p.message for p in unstorable(document)]:
            raise ValidationError(problems)
        return {} if document is None else pruned(document, self.schema)

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except (ValueError, RecursionError):
            return None


class DocumentForm(forms.ModelForm):
    """A model form with a ``document``. Subclasses say what the form offers by ``make_schema``."""

    document = DocumentFormField(label="")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepare()
        if "document" in self.fields:  # it is not for those who may only look
            field: Any = self.fields["document"]
            field.widget.schema = self.make_schema()

    def prepare(self) -> None:
        """Set choices and initial values that the schema depends on."""

    def make_schema(self) -> Schema:
        raise NotImplementedError

    def _post_clean(self) -> None:
        # The model's own validation would complain about the old value of a field that was refused already
        if not self.errors:
            super()._post_clean()  # type: ignore[misc]

    def _update_errors(self, errors: ValidationError) -> None:
        """The model's errors; those of the document are shown where they belong in it, too."""
        found: dict[str, list[ValidationError]] = {}
        for name, entries in errors.error_dict.items():
            # a model may name a field that this form does not show
            found.setdefault(name if name in self.fields else NON_FIELD_ERRORS, []).extend(entries)
        places: dict[str, list[str]] = {}
        for entry in found.get("document", []):
            if path := self.place_of((entry.params or {}).get("path", "")):
                message = entry.messages[0].partition(": ")[2] or entry.messages[0]
                places.setdefault(path, []).append(message)
        if places:
            self.fields["document"].widget.add_error(places)
        super()._update_errors(ValidationError(found))  # type: ignore[misc]

    def shown_document(self) -> dict[str, Any]:
        """The document that the form is about to show: as posted, otherwise as stored."""
        field: Any = self.fields["document"]
        stored = self.initial.get("document")
        document = field.bound_data(self["document"].data, stored) if self.is_bound else stored
        return document if isinstance(document, dict) else {}

    def place_of(self, path: str) -> str:
        """The part of a document's path that has a place of its own in the form: a choice box has none per choice."""
        field: Any = self.fields["document"]
        schema: Schema = field.schema
        steps: list[str] = []
        for step in path.split(".") if path else []:
            items = schema.get("items", {})
            if items.get("widget") == "multiselect":
                break
            steps.append(step)
            schema = items or schema.get("properties", {}).get(step, {})
        return JOIN_SYMBOL.join(steps)
