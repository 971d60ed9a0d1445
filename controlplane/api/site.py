"""The REST API of the installation itself."""

from __future__ import annotations

from typing import Any

from rest_framework import generics, serializers

from controlplane.api.base import save_or_conflict
from controlplane.api.fields import ModelCleaned
from controlplane.api.versions import TaggedByVersion
from controlplane.api.writes import Writes
from controlplane.models import (
    Site,
)


class SiteSerializer(ModelCleaned):
    class Meta:
        model = Site
        fields = ["environment", "security", "version"]


class SiteView(TaggedByVersion, Writes, generics.RetrieveUpdateAPIView[Site]):
    """Returns the name of this environment and the tier of its security checks."""

    queryset = Site.objects.all()
    serializer_class = SiteSerializer

    def get_object(self) -> Site:
        site = Site.current()
        self.check_object_permissions(self.request, site)
        return site

    def perform_update(self, serializer: serializers.BaseSerializer[Any]) -> None:
        save_or_conflict(serializer)
