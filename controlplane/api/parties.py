"""The REST API of parties and their datasets."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from controlplane.api.base import ConfigurationViewSet
from controlplane.api.fields import ModelCleaned, NameOrId
from controlplane.models import (
    Dataset,
    Party,
)


class PartySerializer(ModelCleaned):
    class Meta:
        model = Party
        fields = [
            "id",
            "name",
            "description",
            "address",
            "port_first",
            "port_last",
            "signing_keys",
            "public_key",
            "version",
        ]


class DatasetSerializer(ModelCleaned):
    party = NameOrId(queryset=Party.objects.all())
    drift = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        help_text="How the table on the party's host differs from what is registered, as far as the host has said.",
    )

    class Meta:
        model = Dataset
        reported: ClassVar[list[str]] = ["alignment", "reported_columns", "reported_rows", "reported_at", "drift"]
        fields = [
            *("id", "party", "name", "description", "columns", "key_columns", "produced_by", "version"),
            *reported,
        ]
        # the model's own constraint reports it, in the same words as in the admin
        validators: list[Any] = []
        read_only_fields = ["produced_by", *reported]


class PartyViewSet(ConfigurationViewSet):
    queryset = Party.objects.all()
    serializer_class = PartySerializer


class DatasetViewSet(ConfigurationViewSet):
    queryset = Dataset.objects.select_related("party")
    serializer_class = DatasetSerializer
    filterset_fields = ["name", "party__name", "produced_by"]
