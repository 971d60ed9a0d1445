"""The form of a dataset."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.forms.document import DocumentFormField
from controlplane.forms.schema import Schema
from controlplane.models import (
    COLUMN_TYPES,
    Dataset,
)


class DatasetForm(forms.ModelForm):
    """Shows the columns as rows: name, type, and whether the column is a key."""

    columns = DocumentFormField(
        label="",
        help_text=_("Name the columns as in the table on the party's host. Keys identify a row; PSI matches by them."),
    )

    SCHEMA: Schema = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "title": _("Column")},
                "type": {
                    "type": "string",
                    "title": _("Type"),
                    "choices": list(COLUMN_TYPES),
                    "default": COLUMN_TYPES[2],
                },
                "key": {"type": "boolean", "title": _("Key"), "default": False},
            },
            "required": ["name"],
        },
    }

    class Meta:
        model = Dataset
        fields = ["party", "name", "description", "columns"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "columns" in self.fields:
            field: Any = self.fields["columns"]
            field.widget.schema = self.SCHEMA
            keys = self.instance.key_columns
            self.initial["columns"] = [
                {"name": name, "type": kind, "key": name in keys} for name, kind in self.instance.columns.items()
            ]

    def clean_columns(self) -> dict[str, str]:
        rows = self.cleaned_data["columns"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValidationError(gettext("Give a list of columns, each with its name and type."))
        rows = [row for row in rows if row.get("name")]
        names = [row["name"] for row in rows]
        if not rows or not all(isinstance(name, str) for name in names):
            raise ValidationError(gettext("Give at least one column with its type."))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValidationError(
                gettext("{twice}: named twice; name each column once.").format(twice=", ".join(twice))
            )
        self.instance.key_columns = [row["name"] for row in rows if row.get("key") is True]
        return {row["name"]: row.get("type", "") for row in rows}

    def _post_clean(self) -> None:
        # the model's validation would report the old columns, or a field that this form does not have
        if not self.errors:
            super()._post_clean()  # type: ignore[misc]
