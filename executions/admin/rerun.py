"""The form with which an operator runs an execution once more, with changes."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from controlplane.forms.document import DocumentFormField
from controlplane.forms.schema import label
from controlplane.models import Parties
from controlplane.models.catalogue import DatabaseCatalogue
from executions.models import Execution
from workers.contract.layers import layers
from workers.contract.problems import DocumentsInvalid
from workers.contract.secrets import masked
from workers.contract.validation import validate


class _Indented(json.JSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"indent": 2}))


class RerunForm(forms.ModelForm):
    """Shows name, options and documents (as JSON) of the old execution. ``submit`` makes the new one."""

    class Meta:
        model = Execution
        fields = ["name", *Execution.option_names()]

    def __init__(self, execution: Execution, data: Any = None, within: Parties = None) -> None:
        """``within``: the parties that its user may name; None for all."""
        super().__init__(data, instance=Execution(name=execution.name, **execution.options()))
        self.source, self.within = execution, within
        documents = masked(execution.documents)
        for name, field in self.fields.items():
            widget = UnfoldAdminTextInputWidget if name == "name" else UnfoldAdminIntegerFieldWidget
            field.widget = widget(attrs=field.widget.attrs)
        for layer in layers():
            document = documents.get(layer, {})
            lines = json.dumps(document, indent=2).count("\n") + 1
            # As text and not as fields: it shows exactly what was run, whatever the forms offer today
            widget = UnfoldAdminTextareaWidget(attrs={"rows": min(lines, 40), "spellcheck": "false"})
            self.fields[layer] = DocumentFormField(
                label=label(layer), widget=widget, initial=document, encoder=_Indented
            )

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if all(layer in given for layer in layers()):
            try:
                validate(self._documents(), DatabaseCatalogue(self.within))
            except DocumentsInvalid as error:
                self._show(error)
        return given

    def submit(self, by: Any) -> Execution | None:
        """Submit and return the new execution. Returns None if a document is wrong; the form then shows the
        problems."""
        if not self.is_valid():
            return None
        given = self.cleaned_data
        options = {name: given[name] for name in Execution.option_names()}
        try:
            return self.source.submit_again(
                by=by, documents=self._documents(), name=given["name"], options=options, within=self.within
            )
        except DocumentsInvalid as error:  # what the documents name was changed since the check
            self._show(error)
            return None

    def _documents(self) -> dict[str, Any]:
        given = {layer: self.cleaned_data[layer] for layer in layers()}
        # A further device's layer that was not there, and is still empty, is left out
        return {layer: found for layer, found in given.items() if found or layer in self.source.documents}

    def _show(self, error: DocumentsInvalid) -> None:
        for problem in error.problems:
            layer, _, path = problem.path.partition(".")
            at = f"{path}: {problem.message}" if path else problem.message
            self.add_error(layer if layer in self.fields else None, at)
