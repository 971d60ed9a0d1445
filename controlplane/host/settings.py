"""Django settings of the commands of a party's host, without the apps of the control plane: these would take a second
and 23 MB of each worker."""

import os

from controlplane.environment import environment

# What our processes write, such as SQLite's files, is for their user alone
os.umask(0o077)
INSTALLED_APPS = ["controlplane.host"]
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

RQ = {"WORKER_CLASS": "workers.runtime.worker.PartyWorker", "JOB_CLASS": "workers.contract.jobs.PartyJob"}


class _QueuePerParty(dict[str, object]):
    """django-rq wants every queue named ahead; ours are the parties, which come and go."""

    def __missing__(self, party: str) -> dict[str, object]:
        return {"URL": environment.redis_url, "SERIALIZER": "rq.serializers.JSONSerializer"}


RQ_QUEUES = _QueuePerParty(default={"URL": environment.redis_url, "SERIALIZER": "rq.serializers.JSONSerializer"})

LINE = {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": LINE},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
