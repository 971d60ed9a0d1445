from django.apps import AppConfig

from workers.contract.jobs import install_gate


class ControlplaneConfig(AppConfig):
    name = "controlplane"
    verbose_name = "Control plane"

    def ready(self) -> None:
        # RQ imports by dotted path what a job's hash in Redis names, in whatever process looks at it
        # (the web process too). The gate lets only our own function through.
        install_gate()
