from django.apps import AppConfig, apps
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from controlplane.checks import check_connections, check_migrations
from controlplane.language import name_in_language
from workers.contract.jobs import install_gate


class ControlplaneConfig(AppConfig):
    name = "controlplane"
    verbose_name = _("Control plane")

    def import_models(self) -> None:
        super().import_models()
        # Before any form is made of the models, and takes their fields' names
        name_in_language(self.models.values())

    def ready(self) -> None:
        for label in ("auth", "knox"):  # as the sidebar calls them
            apps.get_app_config(label).verbose_name = _("Administration")
        # RQ imports by dotted path what a job's hash in Redis names, in whatever process looks at it
        # (the web process too). The gate lets only our own function through.
        install_gate()
        register(check_connections, Tags.security, deploy=True)
        register(check_migrations, Tags.database)
        import_string("controlplane.audit.signals.connect")()  # by name: models are there from now on
        # by its name: models cannot be imported before this module
        post_migrate.connect(import_string("controlplane.roles.make_roles"), sender=self, dispatch_uid="roles")
