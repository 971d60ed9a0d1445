"""Settings of the API's OpenAPI description."""

from __future__ import annotations

from workers.contract.logs import LEVELS
from workers.contract.registry import further_layers

DESCRIPTION = """\
Services run tasks of SecretFlow here: they submit executions, follow them, and read what came of them.

- **Signing in.** Send a token as `Authorization: Token ...`. `auth_login` makes one for a user name and a password.
- **Problems** have the form of RFC 9457 (`application/problem+json`). `type` names the kind and never changes;
  `errors` has every problem of the request at its path.
- **Writes.** Send each one with an `Idempotency-Key`: it is done once, however often it is sent. `?dry_run=true`
  answers what would happen, and does nothing.
- **Versions.** Send the `ETag` of what you have read as `If-Match` with a change: nobody else's change is overwritten.
- **Lists** are pages by cursor: follow `next`, or the `Link` header. An empty filter filters nothing.
- **Unknown** parameters and keys are refused, with the closest known name. Read-only fields in a body are ignored.
"""
TAGS = {
    "executions": "Runs of a task: submit, watch, cancel, retry, and read the result.",
    "pipeline-runs": "Runs of a pipeline: submit, watch, cancel and retry.",
    "preflights": "Checks of a task by every party's host, without a run.",
    "events": "Streams of what happens, as server-sent events.",
    "webhooks": "Addresses of yours to which changes of executions are posted.",
    "tasks": "Registered tasks: a document, with the cluster and the devices that it runs on.",
    "pipelines": "Registered pipelines: tasks, and the order in which they run.",
    "schedules": "Times at which a task or a pipeline runs.",
    "task-types": "What a task can compute, with the JSON Schema of its parameters.",
    "parties": "Organisations that take part, each with the host that computes for it.",
    "datasets": "Tables of the parties, as they are registered. The rows stay at the parties.",
    "cluster-configs": "Sets of parties that compute together.",
    "spu-configs": "Configurations of the SPU, which computes on secret shares.",
    "heu-configs": "Configurations of the HEU, which computes on encrypted values.",
    "device-configs": "Configurations of further devices.",
    "site": "This environment: its name, and the tier of its security checks.",
    "auth": "Tokens: make one, and end it.",
}
if not further_layers():
    del TAGS["device-configs"]
SETTINGS = {
    # the version whose schemas are JSON Schema as pydantic writes it
    "OAS_VERSION": "3.1.1",
    "TITLE": "SecretFlow control plane",
    "DESCRIPTION": DESCRIPTION,
    "VERSION": "1",
    "TAGS": [{"name": name, "description": text} for name, text in TAGS.items()],
    # What is read has fields that a request has not, and requires more of them
    "COMPONENT_SPLIT_REQUEST": True,
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "ProblemType": "controlplane.api.errors.TYPES",
        "ExecutionStatus": "executions.states.Status",
        "PartyRunStatus": "executions.states.RunStatus",
        "PipelineRunStatus": "executions.states.PipelineStatus",
        "LogLevel": list(LEVELS),
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
