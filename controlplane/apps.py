from django.apps import AppConfig


class ControlplaneConfig(AppConfig):
    name = "controlplane"
    verbose_name = "Control plane"

    def ready(self) -> None:
        import controlplane.usage  # noqa: F401  it protects what documents name from being deleted
        from workers.contract.jobs import install_gate

        # RQ imports by dotted path what a job's hash in Redis names, in whatever process looks at it
        # (the web process too): nothing off the list may get there.
        install_gate()
