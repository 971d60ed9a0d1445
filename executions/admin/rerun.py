"""The form with which an operator runs an execution once more, with changes."""

from __future__ import annotations

from typing import Any

from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from controlplane.forms.document import DocumentFormField, DocumentWidget, RebuiltForm
from controlplane.forms.schema import Offer, Schema, fitted, form_schema, label, pruned
from controlplane.forms.task import ELSEWHERE, VARIANT, choice_of, offer_of, schema_of, with_choice
from controlplane.language import translated
from controlplane.models import Parties
from controlplane.models.catalogue import DatabaseCatalogue
from executions.models import Execution
from workers.contract.layers import layers, model_of
from workers.contract.problems import DocumentsInvalid
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.secrets import masked
from workers.contract.validation import validate


class RerunForm(RebuiltForm):
    """Shows name, options and documents of the old execution, each as a form and as JSON. ``submit`` makes the new
    one."""

    class Meta:
        model = Execution
        fields = ["name", *Execution.option_names()]

    def __init__(self, execution: Execution, data: Any = None, within: Parties = None) -> None:
        """``within``: the parties that its user may name; None for all."""
        super().__init__(data, instance=Execution(name=execution.name, **execution.options()))
        self.source, self.within = execution, within
        self._catalogue = DatabaseCatalogue(within)
        documents = masked(execution.documents)
        #: The task type, and its variant, which stay as they were.
        self._choice = choice_of(documents.get("task_config")) or ""
        for name, field in self.fields.items():
            widget = UnfoldAdminTextInputWidget if name == "name" else UnfoldAdminIntegerFieldWidget
            field.widget = widget(attrs=field.widget.attrs)
        for layer in layers():
            document = documents.get(layer, {})
            schema = self._schema_of(layer, documents)
            # Text shows exactly what was run, where the form of today cannot; it would fill in what is not there
            is_whole = self._whole(layer, pruned(fitted(document, schema), schema)) == document
            view = "form" if layer in documents and is_whole else "text"
            shown = DocumentWidget(schema=schema, as_text=True, view=view, elsewhere=ELSEWHERE)
            self.fields[layer] = DocumentFormField(label=translated(label(layer)), widget=shown, initial=document)

    def _schema_of(self, layer: str, documents: dict[str, Any]) -> Schema:
        parties = documents.get("sf_init_config", {}).get("parties", [])
        if layer != "task_config":
            return form_schema(model_of(layer), Offer(parties))
        name, _, variant = self._choice.partition(VARIANT)
        if (executor := TASK_EXECUTOR_REGISTRY.get(name)) is None or variant not in {"", *executor.variants()}:
            return {"type": "object", "properties": {}}  # of an extension that is no longer installed
        return schema_of(executor, variant, offer_of(parties, self._catalogue))

    def _whole(self, layer: str, document: Any) -> Any:
        """Return a document with what its form does not ask for."""
        is_task = layer == "task_config" and isinstance(document, dict) and self._choice
        return with_choice(document, self._choice) if is_task else document

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if all(layer in given for layer in layers()):
            try:
                validate(self._documents(), self._catalogue)
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
        given = {layer: self._whole(layer, self.cleaned_data[layer]) for layer in layers()}
        # A further device's layer that was not there, and is still empty, is left out
        return {layer: found for layer, found in given.items() if found or layer in self.source.documents}

    def _show(self, error: DocumentsInvalid) -> None:
        for problem in error.problems:
            layer, _, path = problem.path.partition(".")
            field: Any = self.fields.get(layer)
            message = translated(problem.message)
            if field:
                field.show_problem(path, message)
            self.add_error(layer if field else None, f"{path}: {message}" if path else message)
