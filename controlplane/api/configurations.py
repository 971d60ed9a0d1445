"""The REST API of the cluster's and the devices' documents."""

from __future__ import annotations

from typing import Any

from controlplane.api.base import ConfigurationViewSet, WithUsers
from controlplane.api.fields import DocumentField, ModelCleaned
from controlplane.models import (
    ClusterConfig,
    DeviceConfig,
    HEUConfig,
    SPUConfig,
)
from workers.contract.secrets import masked_document

CONFIGURATION = ["id", "name", "description", "document", "version", "updated_at"]


class ClusterConfigSerializer(ModelCleaned):
    document = DocumentField(layer="sf_init_config")

    class Meta:
        model = ClusterConfig
        fields = CONFIGURATION


class SPUConfigSerializer(ModelCleaned):
    document = DocumentField(layer="spu_config", required=False)

    class Meta:
        model = SPUConfig
        fields = CONFIGURATION


class HEUConfigSerializer(ModelCleaned):
    document = DocumentField(layer="heu_config", required=False)

    class Meta:
        model = HEUConfig
        fields = CONFIGURATION


class DeviceConfigSerializer(ModelCleaned):
    class Meta:
        model = DeviceConfig
        fields = ["layer", *CONFIGURATION]

    def to_representation(self, instance: DeviceConfig) -> dict[str, Any]:
        shown = super().to_representation(instance)
        return shown | {"document": masked_document(instance.layer, instance.document)}


class ClusterConfigDetailSerializer(WithUsers, ClusterConfigSerializer):
    class Meta(ClusterConfigSerializer.Meta):
        fields = [*CONFIGURATION, "used_by"]


class SPUConfigDetailSerializer(WithUsers, SPUConfigSerializer):
    class Meta(SPUConfigSerializer.Meta):
        fields = [*CONFIGURATION, "used_by"]


class HEUConfigDetailSerializer(WithUsers, HEUConfigSerializer):
    class Meta(HEUConfigSerializer.Meta):
        fields = [*CONFIGURATION, "used_by"]


class ClusterConfigViewSet(ConfigurationViewSet):
    queryset = ClusterConfig.objects.all()
    serializer_class = ClusterConfigSerializer
    detail_serializer_class = ClusterConfigDetailSerializer


class SPUConfigViewSet(ConfigurationViewSet):
    queryset = SPUConfig.objects.all()
    serializer_class = SPUConfigSerializer
    detail_serializer_class = SPUConfigDetailSerializer


class HEUConfigViewSet(ConfigurationViewSet):
    queryset = HEUConfig.objects.all()
    serializer_class = HEUConfigSerializer
    detail_serializer_class = HEUConfigDetailSerializer


class DeviceConfigViewSet(ConfigurationViewSet):
    queryset = DeviceConfig.objects.all()
    serializer_class = DeviceConfigSerializer
    filterset_fields = ["name", "layer"]
