from django.apps import AppConfig
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from controlplane.language import name_in_language


class ExecutionsConfig(AppConfig):
    name = "executions"
    verbose_name = _("Runs")

    def import_models(self) -> None:
        super().import_models()
        name_in_language(self.models.values())

    def ready(self) -> None:
        import_string("executions.audit.connect")()  # by name: models are there from now on
