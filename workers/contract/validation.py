"""Validation of the documents of one run: structure, then logic. Everyone calls this one function.

Structure comes from the models, logic from the checks of devices and executors. All problems are
reported at once; logic is checked on the documents whose structure is right.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from workers.contract.catalogue import Catalogue, NothingKnown
from workers.contract.documents import SFInitConfig, TaskConfig
from workers.contract.endpoints import check_left_out, check_ports, check_transport
from workers.contract.layers import REQUIRED, layers, model_of
from workers.contract.problems import DocumentsInvalid, Problem, closest, problems_of
from workers.contract.registry import DEVICE_REGISTRY, TASK_EXECUTOR_REGISTRY
from workers.contract.roles import check_names, check_roles
from workers.contract.secrets import secrets_of

if TYPE_CHECKING:
    from workers.executors.base import BaseTaskExecutor


@dataclass(frozen=True, slots=True)
class Run:
    """The documents of one run, valid and typed."""

    cluster: SFInitConfig
    task: TaskConfig
    executor: type[BaseTaskExecutor]
    #: Layer name to the documents of the devices that are on, in bring-up order.
    devices: dict[str, Any] = field(default_factory=dict)


def parse_document(layer: str, document: Any) -> tuple[Any, list[Problem]]:
    """Return one document's model (None if its structure is wrong) and its problems; paths are within the layer."""
    model = model_of(layer)
    if not isinstance(document, Mapping):
        return None, [Problem("", "is not a JSON object", "should be an object with named keys")]
    try:
        parsed = model.model_validate(dict(document))
    except ValidationError as error:
        return _without_unknown_keys(model, document, error), problems_of(error, model)
    return parsed, list(_not_offered(parsed)) if isinstance(parsed, SFInitConfig) else []


def _without_unknown_keys(model: type[BaseModel], document: Mapping[str, Any], error: ValidationError) -> Any:
    """Return the model without its unknown keys, so that its logic is checked, too; None if anything else is wrong."""
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    if any(entry["type"] != "extra_forbidden" for entry in wrong):
        return None
    document = copy.deepcopy(dict(document))
    for entry in wrong:
        *parents, key = entry["loc"]
        place: Any = document
        for step in parents:
            place = place[step]
        del place[key]
    return model.model_validate(document)


def validate(documents: Mapping[str, Any], catalogue: Catalogue | None = None) -> Run:
    """Return the typed run. Raises DocumentsInvalid with every problem; paths begin with the layer.

    ``documents``: layer name to document. The cluster and the task are required, so are SPU and HEU
    (``{"enable_heu": false}`` switches one off); a further layer may be left out.
    """
    catalogue = catalogue or NothingKnown()
    problems = [
        Problem(name, "unknown document", closest(name, layers())) for name in documents if name not in layers()
    ]
    parsed: dict[str, Any] = {}
    for layer in layers():
        if layer not in documents:
            if layer in REQUIRED:
                off = DEVICE_REGISTRY[layer].switch if layer in DEVICE_REGISTRY else None
                remedy = f'say {{"{off}": false}} if the task does without' if off else "add it"
                problems.append(Problem(layer, "is required", remedy))
            continue
        parsed[layer], found = parse_document(layer, documents[layer])
        problems += [p.under(layer) for p in found]
    executor, params = None, None
    if task := parsed.get("task_config"):
        try:
            executor, params = _executor(task.task_type, task.algorithm_params)
        except DocumentsInvalid as error:
            problems += [p.under("task_config") for p in error.problems]
    else:
        problems += _problems_of_params(documents.get("task_config"))
    problems += _check_logic(parsed, executor, params, catalogue)
    problems += _check_credentials(documents)
    problems += _check_keys(documents, parsed.get("sf_init_config"), catalogue)
    if problems or executor is None:
        raise DocumentsInvalid(problems)
    enabled = {layer: parsed[layer] for layer in DEVICE_REGISTRY if _enabled(layer, parsed.get(layer))}
    return Run(parsed["sf_init_config"], parsed["task_config"], executor, enabled)


def _executor(task_type: str, params: Mapping[str, Any]) -> tuple[type[BaseTaskExecutor], Any]:
    """Return the executor of the task type. Raises DocumentsInvalid with paths within ``task_config``."""
    if task_type not in TASK_EXECUTOR_REGISTRY:
        raise DocumentsInvalid([Problem("task_type", "unknown task type", closest(task_type, TASK_EXECUTOR_REGISTRY))])
    executor = TASK_EXECUTOR_REGISTRY[task_type]
    try:
        return executor, executor.parse_params(params)
    except DocumentsInvalid as error:
        raise DocumentsInvalid([p.under("algorithm_params") for p in error.problems]) from None


def _problems_of_params(task: Any) -> list[Problem]:
    """Return the problems of the parameters of a task document that is also wrong elsewhere."""
    name, params = (task.get(key) if isinstance(task, Mapping) else None for key in ("task_type", "algorithm_params"))
    if not isinstance(name, str) or name not in TASK_EXECUTOR_REGISTRY or not isinstance(params, Mapping):
        return []
    try:
        _executor(name, params)
    except DocumentsInvalid as error:
        return [p.under("task_config") for p in error.problems]
    return []


def _enabled(layer: str, document: Any) -> bool:
    return document is not None and getattr(document, DEVICE_REGISTRY[layer].switch)


def _not_offered(cluster: SFInitConfig) -> Iterator[Problem]:
    """Yield the settings that are known but would have no effect: they are refused, never ignored."""
    if cluster.address is not None:
        yield Problem("address", "Ray inside a party is not offered yet", "leave it out")
    if cluster.mode == "debug":
        yield Problem("mode", "debug mode is not offered yet", "use production")
    for problem in cluster.cross_silo_comm_options.check(cluster.cross_silo_comm_backend):
        yield problem.under("cross_silo_comm_options")


def _check_logic(
    parsed: Mapping[str, Any], executor: type[BaseTaskExecutor] | None, params: Any, catalogue: Catalogue
) -> list[Problem]:
    cluster: SFInitConfig | None = parsed.get("sf_init_config")
    if cluster is None:
        return []
    problems = [p.under("sf_init_config") for p in _check_cluster(cluster, catalogue)]
    problems += check_left_out(cluster, parsed, catalogue)
    problems += check_ports(cluster, parsed)
    if catalogue.security == "production":
        problems += check_transport(cluster, parsed, catalogue)
    for layer in DEVICE_REGISTRY:
        if _enabled(layer, parsed.get(layer)):
            device = DEVICE_REGISTRY[layer]
            found = [*device.check(parsed[layer], cluster)]
            if catalogue.security == "production":
                found += device.check_security(parsed[layer])
            problems += [p.under(layer) for p in found]
    task: TaskConfig | None = parsed.get("task_config")
    if task is None:
        return problems
    found = [*check_names(task, cluster, catalogue)]
    if executor and params is not None:
        found += check_roles(task, cluster, executor.roles(params), catalogue)
        needed = executor.needs(params)
        for name in needed:
            layer = next(key for key in DEVICE_REGISTRY if DEVICE_REGISTRY[key].name == name)
            document = parsed.get(layer)
            is_left_out = layer not in parsed and layer not in REQUIRED
            if is_left_out or (document is not None and not _enabled(layer, document)):
                switch = DEVICE_REGISTRY[layer].switch
                problems.append(
                    Problem(f"{layer}.{switch}", f"task type {task.task_type} needs this device", "set it to true")
                )
        found += executor.check(params, task, cluster, catalogue)
        on = {d.name: parsed[layer] for layer, d in DEVICE_REGISTRY.items() if _enabled(layer, parsed.get(layer))}
        if on.keys() >= set(needed):
            found += executor.check_devices(params, task, cluster, on)
    return problems + [p.under("task_config") for p in found]


def _check_cluster(cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
    parties = ", ".join(cluster.parties)
    if cluster.self_party is not None and cluster.self_party not in cluster.parties:
        yield Problem("self_party", "is not one of the parties", f"should be one of {parties}")
    if cluster.cluster and set(cluster.cluster) != set(cluster.parties):
        yield Problem("cluster", "does not list each party once", f"should list {parties}")
    known = getattr(catalogue, "parties", None)
    if known is not None:
        for index, party in enumerate(cluster.parties):
            if party not in known:
                yield Problem(f"parties.{index}", f"no party {party!r} is registered", closest(party, known))


def _check_credentials(documents: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield texts that hold a password in a URL, in a field that is not a secret."""
    for layer, document in documents.items():
        secret = secrets_of(layer, document)
        for path, text in _texts(document, layer):
            if _has_credentials(text) and path not in secret:
                yield Problem(".".join(path), "has a password in a URL", "documents are shown to people: leave it out")


def _has_credentials(text: str) -> bool:
    """Return whether the text has a URL with a password, such as ray://user:password@host."""
    for rest in text.split("://")[1:]:
        user, at, _ = rest.partition("/")[0].partition("@")
        if at and ":" in user and not any(character.isspace() for character in user):
            return True
    return False


def _texts(document: Any, layer: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every text in a document, with its path. Does not recurse: the document's depth has not been checked
    yet."""
    pending: list[tuple[tuple[str, ...], Any]] = [((layer,), document)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, Mapping):
            pending += [((*path, str(key)), entry) for key, entry in value.items()]
        elif isinstance(value, list):
            pending += [((*path, str(index)), entry) for index, entry in enumerate(value)]


def _check_keys(documents: Mapping[str, Any], cluster: SFInitConfig | None, catalogue: Catalogue) -> Iterator[Problem]:
    """Check that each party whose secrets are in the documents has a key to seal them with."""
    keys: Mapping[str, str] | None = getattr(catalogue, "public_keys", None)
    if keys is None or cluster is None or not any(secrets_of(layer, found) for layer, found in documents.items()):
        return
    for index, party in enumerate(cluster.parties):
        if party in keys and not keys[party]:
            yield Problem(
                f"sf_init_config.parties.{index}",
                f"the documents have secrets, and {party} has no public key to seal them with",
                f"run `manage.py party keys` on {party}'s host and enter what it prints on the party's page",
            )
