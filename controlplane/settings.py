"""Django settings; what differs between installations comes from ``controlplane.environment``."""

import sys
from collections.abc import Callable
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from controlplane import openapi
from controlplane.environment import ROOT, environment
from controlplane.host import settings as host
from workers.contract.registry import further_layers

SECRET_KEY = environment.secret()
DEBUG = environment.debug
ALLOWED_HOSTS = environment.allowed_hosts
CSRF_TRUSTED_ORIGINS = environment.csrf_trusted_origins
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = SECURE_SSL_REDIRECT = environment.https
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"  # Strict would sign out whoever follows a link to an execution
SESSION_COOKIE_AGE = 12 * 3600  # a working day
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
# Load balancers and kubelets ask over plain HTTP, and by the address of this host (SlashMiddleware)
SECURE_REDIRECT_EXEMPT = ["^healthz$", "^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if environment.https else 0
# HSTS for this host alone, and no preloading: about the organisation's other hosts it is not ours to decide
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = False
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if environment.https else None
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_filters",
    "django_jsonform",
    "simple_history",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    # ours before django_rq: its rqworker command is wrapped for clear errors
    "executions",
    "controlplane",
    "controlplane.host",
    "django_rq",
]

MIDDLEWARE = [
    "controlplane.request_id.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "controlplane.middleware.ContentPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "controlplane.middleware.LanguageMiddleware",
    "controlplane.middleware.SlashMiddleware",
    "controlplane.middleware.UnchangedMiddleware",
    "controlplane.middleware.BusyMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "controlplane.middleware.SignInMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # who made a change, for the history; the API's users too, whom REST framework sets on the request
    "simple_history.middleware.HistoryRequestMiddleware",
    "controlplane.middleware.AuditMiddleware",
    "controlplane.middleware.AccountMiddleware",
    "controlplane.middleware.SecondFactorMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
WSGI_APPLICATION = "controlplane.wsgi.application"
ASGI_APPLICATION = "controlplane.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

try:
    _database = dj_database_url.parse(environment.database_url or f"sqlite:///{environment.state_dir / 'db.sqlite3'}")
except ValueError:  # the error's text may hold a part of the password
    raise ImproperlyConfigured(
        "DATABASE_URL is no address of a database; such as postgresql://user:password@host/name. In a password, write "
        "%23 for #, %2F for /, and so on."
    ) from None
DATABASES = {"default": _database}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # IMMEDIATE takes the write lock when a transaction begins: two claimants queue up instead of failing
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    # Tests use a file as well: an in-memory database has no locks worth testing
    DATABASES["default"]["TEST"] = {"NAME": environment.state_dir / "test.sqlite3"}
else:
    # For the threads of a web server. A command has one connection, and is told at once why it has none, where a pool
    # waits for half a minute and then does not say
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = Path(sys.argv[0]).name != "manage.py"
    DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", 10)
    # A pooled connection that the server closed meanwhile is replaced, not handed out
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = ["controlplane.sign_in.Backend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

PASSWORD_RESET_TIMEOUT = environment.link_hours * 3600
# Without a mail server nothing asks for the backend (controlplane.people.mail)
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if environment.email_host else 'dummy'}.EmailBackend"
EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = environment.email_host, environment.email_port, 10
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = environment.email_user, environment.email_password
EMAIL_USE_TLS, EMAIL_USE_SSL = environment.email_security == "starttls", environment.email_security == "tls"
DEFAULT_FROM_EMAIL = environment.email_from or f"controlplane@{environment.email_host or 'localhost'}"

LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE, TIME_ZONE, USE_TZ = host.LANGUAGE_CODE, host.TIME_ZONE, host.USE_TZ
# The console's languages. What is stored, logged and answered by the API is English (controlplane.language)
LANGUAGES = [(LANGUAGE_CODE, "English"), ("zh-hans", "简体中文")]
# Ours before those of the installed packages, which call some things otherwise
LOCALE_PATHS = [ROOT / part / "locale" for part in ("workers", "executions", "controlplane")]
FORMAT_MODULE_PATH = "controlplane.formats"
STATIC_URL = "static/"
# Static files come from the installed packages themselves: no collectstatic step to forget
WHITENOISE_USE_FINDERS = True

RQ, RQ_QUEUES = host.RQ, host.RQ_QUEUES
# Lines for people, or for machines; both with the id of the request
LOGGING = host.LOGGING | {
    "formatters": {
        "line": {"()": "controlplane.request_id.Line", **host.LINE},
        "json": {"()": "controlplane.request_id.as_json"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": environment.log_format}},
}
# Its pages are open to all staff, show and change the jobs of all parties, and what is in Redis is not the truth here
RQ_SHOW_ADMIN_LINK = False
# knox's own default, which migrations ask for
KNOX_TOKEN_MODEL = "knox.AuthToken"  # noqa: S105

# What each process counts for itself (controlplane.api.throttling)
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "requests": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "requests",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "controlplane.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["controlplane.api.throttling.EachSender"],
    "DEFAULT_PERMISSION_CLASSES": ["controlplane.api.permissions.ModelPermissions"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["controlplane.api.parsers.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "controlplane.api.pagination.Pagination",
    "PAGE_SIZE": 50,
    # ?format= is a parameter like any: the Accept header says which form is wanted
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_SCHEMA_CLASS": "controlplane.api.schema.Schema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
}
DRF_STANDARDIZED_ERRORS = {"EXCEPTION_HANDLER_CLASS": "controlplane.api.errors.Handler"}
SPECTACULAR_SETTINGS = openapi.SETTINGS


def _static(name: str) -> Callable[[object], str]:
    return lambda request: static(f"controlplane/{name}")


def _page(title: object, icon: str, model: str, seen_as: str = "") -> dict[str, object]:
    """Return a sidebar entry that leads to a model's list, for users who may view the model (``seen_as``, if given)."""
    app, _, name = model.partition(".")
    permission = f"{app}.view_{seen_as or name}"
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: request.user.has_perm(permission),
    }


UNFOLD = {
    "SITE_TITLE": "SecretFlow control plane",
    "SITE_HEADER": "SecretFlow control plane",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _static("favicon.svg")}],
    "STYLES": [
        _static(f"{name}.css")
        for name in ("console", "document-form", "pages", "lists", "results", "timeline", "logs", "people", "compose")
    ],
    "SCRIPTS": [_static(f"{name}.js") for name in ("console", "lists", "people")],
    "DASHBOARD_CALLBACK": "executions.admin.dashboard.dashboard",
    "ACCOUNT": {
        "navigation": [
            {"title": _("Your account"), "link": reverse_lazy("account")},
            {"title": _("Notifications"), "link": reverse_lazy("notifications")},
            {"title": _("API tokens"), "link": reverse_lazy("admin:knox_authtoken_changelist")},
            {"title": _("API reference"), "link": reverse_lazy("docs")},
        ]
    },
    "ENVIRONMENT": "controlplane.admin.site.environment_label",
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "navigation": [
            {
                "items": [
                    {"title": _("Overview"), "icon": "dashboard", "link": reverse_lazy("admin:index")},
                ]
            },
            {
                "title": _("Runs"),
                "items": [
                    _page(_("Executions"), "play_circle", "executions.execution"),
                    _page(_("Pipeline runs"), "account_tree", "executions.pipelinerun", seen_as="execution"),
                    _page(_("Approvals"), "approval", "executions.approval", seen_as="execution"),
                    _page(_("Dead letters"), "unsubscribe", "executions.deadletter", seen_as="execution"),
                    # Everybody has webhooks of their own
                    _page(_("Webhooks"), "webhook", "executions.webhook", seen_as="execution"),
                ],
            },
            {
                "title": _("Compose"),
                "items": [
                    _page(_("Tasks"), "task", "controlplane.task"),
                    _page(_("Pipelines"), "schema", "controlplane.pipeline"),
                    _page(_("Schedules"), "schedule", "controlplane.schedule"),
                    _page(_("Parties"), "groups", "controlplane.party"),
                    _page(_("Datasets"), "table_chart", "controlplane.dataset"),
                    _page(_("Clusters"), "hub", "controlplane.clusterconfig"),
                    _page(_("SPU"), "memory", "controlplane.spuconfig"),
                    _page(_("HEU"), "enhanced_encryption", "controlplane.heuconfig"),
                    # Without such devices there is no page for their configurations
                    *(
                        [_page(_("Other devices"), "developer_board", "controlplane.deviceconfig")]
                        * bool(further_layers())
                    ),
                ],
            },
            {
                "title": _("Administration"),
                "items": [
                    _page(_("Environment"), "tune", "controlplane.site"),
                    _page(_("Users"), "person", "auth.user"),
                    _page(_("Groups"), "group", "auth.group"),
                    # Everybody has tokens of their own
                    _page(_("Audit trail"), "policy", "controlplane.auditentry"),
                    {"title": _("API tokens"), "icon": "key", "link": reverse_lazy("admin:knox_authtoken_changelist")},
                ],
            },
        ],
    },
}
