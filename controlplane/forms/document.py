"""Form fields for documents: edited in the browser by django-jsonform, from the pydantic models' JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Collection
from copy import deepcopy
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.forms.fields import InvalidJSONInput
from django.forms.utils import ErrorDict
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe
from django.utils.translation import gettext
from django_jsonform.constants import JOIN_SYMBOL
from django_jsonform.widgets import JSONFormWidget

from controlplane.documents.storable import unstorable
from controlplane.forms.schema import fitted, pruned
from controlplane.models.party_set import Parties
from workers.contract.secrets import masked_document

Schema = dict[str, Any]


#: Names that the page posts to get the form again: for another choice, or in its other view.
REBUILD = "_rebuild"


class DocumentWidget(JSONFormWidget):
    """Shows a document as a form or as JSON text; buttons switch between the two through the server.

    A value that does not fit the schema would leave the browser with an empty form: it has to be fitted before.
    """

    schema: Schema

    def __init__(
        self,
        *args: Any,
        as_text: bool = False,
        view: str = "form",
        elsewhere: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        """``as_text``: offer the text beside the form. ``view``: which of the two is shown first, ``form`` or
        ``text``. ``elsewhere``: keys of a text that the page keeps although the form has no field for them."""
        super().__init__(*args, **kwargs)
        self.as_text, self.elsewhere = as_text, elsewhere
        #: Whether what was posted is text, exactly as the user wrote it.
        self.is_text = False
        self._view = view
        self._is_saving = False

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        posted = data.get(f"{name}__view", "form") if self.as_text else "form"
        self.is_text = posted == "text"
        self._view = data.get(f"{name}__show", posted)
        self._is_saving = REBUILD not in data
        return data.get(f"{name}__text" if self.is_text else name)

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        document, problem = _read(value)
        self.schema = deepcopy(self.schema)
        shown = fitted(document, self.schema)
        form = super().render(name, json.dumps(shown), attrs, renderer)
        if not self.as_text:
            return form
        if self.is_text and self._view == "form" and not problem and (lost := _lost(document, shown, self.elsewhere)):
            problem = gettext("The form has no place for {keys}: correct or remove it first.").format(
                keys=", ".join(lost)
            )
        if not self.is_text:
            document = pruned(document, self.schema)
        context = {
            "name": name,
            "view": "text" if problem else self._view,
            "form": form,
            "text": value if problem else json.dumps(document, indent=2, ensure_ascii=False),
            "problem": "" if self._is_saving else problem,  # the form itself shows the problem
        }
        return mark_safe(render_to_string("controlplane/document_widget.html", context))  # noqa: S308  a template's


def _lost(value: Any, shown: Any, elsewhere: Collection[str], path: str = "") -> list[str]:
    """Return the keys of a document, with their paths, that are not in what the form shows of it."""
    if not isinstance(value, dict):
        return []
    found: list[str] = []
    for key, entry in value.items():
        at = f"{path}{key}"
        if isinstance(shown, dict) and key in shown:
            found += _lost(entry, shown[key], elsewhere, f"{at}.")
        elif key not in elsewhere and entry not in (None, "", [], {}):
            found.append(at)
    return found


def _read(text: Any) -> tuple[Any, str]:
    """Return the document, and the problem of the text if it is not JSON."""
    try:
        return json.loads(text) if text else {}, ""
    except json.JSONDecodeError as error:
        return {}, gettext("This is no JSON: {wrong} at line {line}, column {column}.").format(
            wrong=error.msg, line=error.lineno, column=error.colno
        )
    except (ValueError, RecursionError):
        return {}, gettext("This JSON is nested too deeply, or has a number that is too long.")


class DocumentFormField(forms.JSONField):
    """A form field whose value is the document that the browser sends, without what was left empty."""

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
        document, problem = (None, "") if value in self.empty_values else _read(value)
        if problem:
            raise ValidationError(problem, code="invalid")
        if problems := [str(p) if p.path else p.message for p in unstorable(document)]:
            raise ValidationError(problems)
        if document is None:
            return {}
        # What was left empty in the form is left out of the document
        return document if getattr(self.widget, "is_text", False) else pruned(document, self.schema)

    def place_of(self, path: str) -> str:
        """Return the part of a document's path that has its own place in the form. The entries of a choice box have
        none."""
        schema = self.schema
        steps: list[str] = []
        for step in path.split(".") if path else []:
            items = schema.get("items", {})
            if items.get("widget") == "multiselect":
                break
            steps.append(step)
            schema = items or schema.get("properties", {}).get(step, {})
        return JOIN_SYMBOL.join(steps)

    def show_problem(self, path: str, message: str) -> None:
        """Show a problem of the document at its place in the form, if it has one."""
        if place := self.place_of(path):
            self.widget.add_error({place: [message]})

    def bound_data(self, data: Any, initial: Any) -> Any:
        document, problem = _read(data)
        return InvalidJSONInput(data) if problem else document


class RebuiltForm(forms.ModelForm):
    """A model form that the page may ask for again: for another choice, or with a document in its other view."""

    @property
    def is_rebuilt(self) -> bool:
        """Return whether the page only asks for the form again."""
        return bool(self.is_bound and REBUILD in self.data)

    def full_clean(self) -> None:
        if self.is_rebuilt:
            # nothing is saved, so no errors are shown
            self._errors = ErrorDict({REBUILD: self.error_class()})
            self.cleaned_data = {}
            return
        super().full_clean()


class DocumentForm(RebuiltForm):
    """A model form with a ``document``. Subclasses say what the form offers by ``make_schema``."""

    document = DocumentFormField(label="", widget=DocumentWidget(schema={"type": "object"}, as_text=True))

    #: Parties whose things it offers; None for all.
    within: Parties = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepare()
        if "document" in self.fields:  # the field is missing for users who may only look
            field: Any = self.fields["document"]
            self.initial["document"] = masked_document(self.layer, self.initial.get("document") or {})
            field.widget.schema = self.make_schema()

    #: Fields of the model that the document is validated against.
    decisive: ClassVar[frozenset[str]] = frozenset({"document", "layer"})

    @property
    def layer(self) -> str:
        """Return the layer of the document."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Set the choices and initial values that the schema depends on."""

    def make_schema(self) -> Schema:
        raise NotImplementedError

    def _post_clean(self) -> None:
        # The model's validation would report the old value of a field that was already refused
        if self.decisive.isdisjoint(self.errors):
            super()._post_clean()  # type: ignore[misc]

    def _update_errors(self, errors: ValidationError) -> None:
        """Show the model's errors; those of the document at their places in it, too."""
        found: dict[str, list[ValidationError]] = {}
        for name, entries in errors.error_dict.items():
            # a model may name a field that this form does not show
            found.setdefault(name if name in self.fields else NON_FIELD_ERRORS, []).extend(entries)
        field: Any = self.fields.get("document")
        for entry in found.get("document", []):
            message = entry.messages[0].partition(": ")[2] or entry.messages[0]
            field.show_problem((entry.params or {}).get("path", ""), message)
        super()._update_errors(ValidationError(found))  # type: ignore[misc]

    def shown_document(self) -> dict[str, Any]:
        """Return the document to show: as posted, otherwise as stored."""
        field: Any = self.fields["document"]
        stored = self.initial.get("document")
        document = field.bound_data(self["document"].data, stored) if self.is_bound else stored
        return document if isinstance(document, dict) else {}
