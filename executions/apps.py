from django.apps import AppConfig
from django.utils.module_loading import import_string


class ExecutionsConfig(AppConfig):
    name = "executions"
    verbose_name = "Runs"

    def ready(self) -> None:
        import_string("executions.audit.connect")()  # by name: models are there from now on
