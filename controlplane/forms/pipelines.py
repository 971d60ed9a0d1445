"""The forms of pipelines and schedules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_jsonform.constants import JOIN_SYMBOL
from unfold.widgets import UnfoldAdminSelectWidget

from controlplane.documents.storable import unstorable
from controlplane.forms.document import DocumentFormField
from controlplane.forms.schema import Schema
from controlplane.language import translated
from controlplane.models import Parties, Pipeline, Schedule, Task
from controlplane.models.catalogue import ComposingCatalogue
from controlplane.pipelines.layout import GAP_X, GAP_Y, MARGIN, WIDTH, Drawing, draw
from controlplane.pipelines.plan import MOST_NODES, Flow, Step
from controlplane.times import known_zones


class PipelineForm(forms.ModelForm):
    """Shows the nodes as rows: name, task, and the nodes that it comes after."""

    nodes = DocumentFormField(
        label="",
        help_text=_(
            "A node waits by itself for those whose outputs its task reads; name only others that it is to come after."
        ),
    )

    class Meta:
        model = Pipeline
        fields = ["name", "description", "nodes"]

    #: Parties whose tasks it offers; None for all.
    within: Parties = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: list[str] = []
        if "nodes" in self.fields:
            field: Any = self.fields["nodes"]
            field.widget.schema = self._schema()
            nodes = self.instance.nodes
            # in the order in which they run: PostgreSQL keeps no order of keys
            order = dict.fromkeys([*(step.name for step in _flow(nodes, self.within).steps), *nodes]) if nodes else {}
            self.initial["nodes"] = [
                {"name": name, "task": nodes[name]["task"], "after": ", ".join(nodes[name].get("after", ()))}
                for name in order
            ]

    def _schema(self) -> Schema:
        tasks = list(Task.rows_within(self.within, wholly=True).order_by("name").values_list("name", flat=True))
        return {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "title": gettext("Node"), "placeholder": gettext("such as train")},
                    "task": {"type": "string", "title": gettext("Task"), "choices": tasks},
                    "after": {
                        "type": "string",
                        "title": gettext("Also after"),
                        "placeholder": gettext("such as split, scale"),
                    },
                },
                "required": ["name", "task"],
            },
        }

    def clean_nodes(self) -> dict[str, Any]:
        rows = self.cleaned_data["nodes"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValidationError(gettext("Give a list of nodes, each with its name and task."))
        names = [row.get("name") for row in rows]
        if not rows or not all(isinstance(name, str) for name in names):
            raise ValidationError(gettext("Each node needs a name and a task; remove the rows that are left over."))
        if twice := _twice(rows):
            raise ValidationError(twice)
        self._rows = [row["name"] for row in rows]
        return _nodes_of(rows)

    def _post_clean(self) -> None:
        # the model's validation would report the old nodes
        if "nodes" not in self.errors:
            super()._post_clean()  # type: ignore[misc]

    def _update_errors(self, errors: ValidationError) -> None:
        """Show the model's errors; those of a node in its row, too."""
        places: dict[str, list[str]] = {}
        for entry in errors.error_dict.get("nodes", []):
            node, _, rest = (entry.params or {}).get("path", "").partition(".")
            if node in self._rows:
                column = "after" if rest.startswith("after") else "task"
                message = entry.messages[0].removeprefix(f"{node}.")
                places.setdefault(JOIN_SYMBOL.join((str(self._rows.index(node)), column)), []).append(message)
        if places:
            field: Any = self.fields["nodes"]
            field.widget.add_error(places)
        super()._update_errors(errors)  # type: ignore[misc]

    def drawing(self) -> Drawing:
        """Return the drawing of the nodes as posted, even if they are wrong, otherwise as stored."""
        nodes = getattr(self, "cleaned_data", {}).get("nodes") or self.instance.nodes
        return drawing_of(nodes, self.within)


def _twice(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with rows of the same name, if there are any."""
    names = Counter(str(row["name"]) for row in rows)
    if not (twice := sorted(name for name, number in names.items() if number > 1)):
        return []
    return [gettext("{twice}: named twice; name each node once.").format(twice=", ".join(twice))]


def _nodes_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the nodes of a form's rows, each of which has a name."""
    nodes = {}
    for row in rows:
        after = [name for name in str(row.get("after", "")).replace(",", " ").split() if name]
        nodes[row["name"]] = {"task": row.get("task", "")} | ({"after": after} if after else {})
    return nodes


class ScheduleForm(forms.ModelForm):
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        choices=lambda: [(name, name) for name in sorted(known_zones())],
        initial="UTC",
        widget=UnfoldAdminSelectWidget,
        help_text=_("Time zone of the cron expression."),
    )

    class Meta:
        model = Schedule
        fields = ["name", "description", "cron", "time_zone", "task", "pipeline", "enabled"]


def _flow(nodes: Any, within: Parties) -> Flow:
    pipeline = Pipeline(nodes=nodes)
    pipeline.within = within
    return pipeline.flow()


def drawing_of(nodes: Any, within: Parties = None) -> Drawing:
    """Return the drawing of a stored pipeline; nodes that are wrong, or not to be seen, are left out."""
    steps = _flow(nodes, within).steps
    return _drawing_of_steps(steps)


def composed(rows: Any, within: Parties) -> dict[str, Any]:
    """Return what the canvas of the form shows for its rows as they are now: ``nodes`` by name, each with its place and
    task; ``lines`` between them, each with its reason and whether a row names it, so that it can be taken away; and
    ``problems`` in words. Rows that are not filled in yet are left out."""
    if not isinstance(rows, list):
        rows = []
    if refused := list(unstorable(rows)):
        return {"nodes": {}, "lines": [], "notes": [], "problems": [translated(str(problem)) for problem in refused]}
    named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str) and row["name"]]
    nodes = _nodes_of(named[:MOST_NODES])
    flow = _flow(nodes, within)
    if nodes:
        flow.check_documents(ComposingCatalogue(Task.objects.all(), within))
    drawing = _drawing_of_steps(flow.steps)
    at = {name: {"x": box.x, "y": box.y} for name, box in drawing.boxes.items()}
    # What is wrong has no place in the order: a row of its own below
    for index, name in enumerate(name for name in nodes if name not in at):
        at[name] = {"x": MARGIN + index * (WIDTH + GAP_X), "y": drawing.height + GAP_Y}
    wrong = {problem.path.partition(".")[0] for problem in flow.problems}
    return {
        "nodes": {name: place | {"task": nodes[name]["task"], "wrong": name in wrong} for name, place in at.items()},
        "lines": [
            {
                "from": line.earlier, "to": line.later, "why": translated(line.title),
                "own": line.earlier in nodes[line.later].get("after", ()),
            }
            for line in drawing.lines
        ],
        "notes": drawing.notes,
        # Nothing is wrong with what is not begun
        "problems": [*_twice(named), *(translated(str(problem)) for problem in flow.problems if nodes)],
    }  # fmt: skip


def _drawing_of_steps(steps: Sequence[Step]) -> Drawing:
    drawing = draw({step.name: step.waits_for for step in steps})
    for step in steps:
        box = drawing.boxes[step.name]
        box.text = step.task.name
        box.title = f"{step.name}: {step.task.name}"
        if step.earlier:
            drawing.notes.append(
                gettext(
                    "{name} reads {outputs} as an earlier execution left it: no node of this pipeline makes that."
                ).format(name=step.name, outputs=", ".join(step.earlier))
            )
    return drawing
