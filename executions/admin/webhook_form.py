"""The form of a webhook: the same fields and checks as in the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from controlplane.access import Access
from controlplane.language import translated
from controlplane.models import Party
from controlplane.people.webhook import problem_of
from executions.coordinator.webhooks import problem_of_name
from executions.models import Webhook, check_labels
from executions.models.webhook import event_type
from executions.states import Status

#: Types of events with the words for their statuses.
EVENTS = tuple((event_type(status), status.label) for status in Status)


def as_lines(labels: Mapping[str, str]) -> str:
    """Return labels as the form has them: a line for each."""
    return "\n".join(f"{key}:{value}" for key, value in labels.items())


def from_lines(text: str) -> dict[str, str]:
    """Return the labels that lines name. Raises ValidationError, which says what is wrong with each of them."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not (key or colon):
            continue
        if not colon or not key:
            told = gettext("Line {number}: write a label as key:value, such as team:risk.")
            raise ValidationError(told.format(number=number))
        if key in found:
            told = gettext("Line {number}: {key} is there twice; leave one of them out.")
            raise ValidationError(told.format(number=number, key=key))
        found[key] = value
    try:
        check_labels(found)
    except ValidationError as error:
        by_key = getattr(error, "message_dict", None)
        texts = [f"{key}: {said[0]}" for key, said in by_key.items()] if by_key else error.messages
        raise ValidationError(texts) from None
    return found


class WebhookForm(forms.ModelForm):
    """Asks where events are posted, and which. Its admin says who fills it in, and whose webhook it is."""

    access: Access
    user: Any
    owner: Any

    name = forms.CharField(
        max_length=100, widget=UnfoldAdminTextInputWidget, help_text=_("What receives the events, such as reports.")
    )
    url = forms.CharField(
        max_length=500,
        label=_("URL"),
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://", "autocomplete": "off"}),
        help_text=_("Where events are posted, such as https://hooks.example/abc."),
    )
    events = forms.MultipleChoiceField(
        choices=EVENTS,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("Posted when an execution changes to one of these statuses; to any of them if you tick none."),
    )
    party = forms.ChoiceField(
        required=False, widget=UnfoldAdminSelectWidget, help_text=_("Only executions that this party takes part in.")
    )
    labels = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "team:risk"}),
        help_text=_("Only executions with all of these labels, a line for each: key:value."),
    )

    class Meta:
        model = Webhook
        fields = ("name", "url", "events", "party", "labels", "signature", "enabled")
        help_texts = {
            "signature": _(
                "HMAC-SHA256: the receiver has the same key as the control plane. Ed25519: the receiver has a public "
                "key, with which it can check and not sign. It cannot be changed later."
            ),
            "enabled": _("Switched off, it is sent nothing. What is still to be posted waits."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["labels"] = as_lines(self.instance.labels)
        if "party" in self.fields:
            names = {*self.access.visible(Party.objects.all()).values_list("name", flat=True)}
            names |= {self.instance.party} - {""}  # of a party that is gone, or to come
            field: Any = self.fields["party"]
            field.choices = [("", gettext("Any party")), *((name, name) for name in sorted(names))]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if why := problem_of_name(self.owner, name, but=self.instance if self.instance.pk else None):
            is_mine = self.owner == self.user
            told = gettext("{owner} has a webhook of this name already; give it another one").format(owner=self.owner)
            raise ValidationError(translated(why) if is_mine else told)
        return name

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        if why := problem_of(url):
            raise ValidationError(why)
        return url

    def clean_labels(self) -> dict[str, str]:
        return from_lines(self.cleaned_data["labels"])
