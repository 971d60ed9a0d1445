"""Says in plain words what a party.toml permits, and who learns what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.host.party import PartyHost
from workers.host.party_file import DatasetEntry

_PUBLISHED = {
    "nothing": "nothing of the tables but what documents name already: no names, columns or numbers of rows",
    "columns": "the names of the datasets, and the names and types of their columns, but no number of rows",
    "counts": "the names of the datasets, the names and types of their columns, and their numbers of rows",
}


def permits(host: PartyHost) -> Iterator[str]:
    """Yield sentences for people, each a line."""
    policy = host.policy
    peers = _listed(policy.peers, "whatever parties the control plane registers")
    yield f"{host.name} takes part in {_listed(policy.task_types, 'all task types')} with {peers}."
    if host.control_plane is None:
        yield "It follows nobody's orders: party.toml has no [control_plane]."
    else:
        keys = _count(len(host.control_plane.key_ids), "key")
        yield f"It follows orders that are signed with {keys} of the control plane."
    if policy.approve == "ask":
        yield f"A person at {host.name} approves each execution before it runs."
    else:
        yield "No person is asked before an execution runs."
    if policy.security == "trial":
        yield "Security checks are lowered: this host is for test data only."
    yield from _learned(host, peers)
    yield from _minima(host)
    yield from _tables(host)
    yield f"Results are kept in {host.output_dir}, readable by the worker's user alone."


def _learned(host: PartyHost, peers: str) -> Iterator[str]:
    known = [name for name in host.policy.task_types if name in TASK_EXECUTOR_REGISTRY]
    learn = "learns" if len(host.policy.peers) == 1 and "*" not in host.policy.peers else "learn"
    yield f"Of what tasks compute, {peers} {learn} what each task type tells, and no other row:"
    for name in known:
        yield f"  {name}: {TASK_EXECUTOR_REGISTRY[name].description()}"
    if "*" in host.policy.task_types:
        yield "  all task types: see docs/task-types.md, or `manage.py task_types`"
    yield f"The control plane learns {_PUBLISHED[host.policy.publish]}."
    yield logs_sent(host)
    yield (
        "Of each run it learns the progress, the result and errors; never a row, and never a path of this host. "
        "Results tell numbers whatever is published otherwise: a PSI's how many rows each party has."
    )


def logs_sent(host: PartyHost) -> str:
    """Return what the control plane gets of the logs of runs, in words."""
    sends, most = host.sends_logs, host.logs.lines
    kept = f"each is kept whole on this host for {_count(host.logs.keep_days, 'day')}"
    if sends == "off":
        return f"The control plane gets nothing of the logs of runs; {kept}."
    what = f"the last {_count(most, 'line')} of the log of a run that failed"
    if sends != "failure":
        what = f"lines of at least level {sends} of each run's log, at most {most:,}, and the last lines if it fails"
    kept = f"{kept[0].upper()}{kept[1:]}"
    if host.logs.text == "all":
        return f"The control plane gets {what}, all texts included: for test data only, as they may quote rows. {kept}."
    return (
        f"The control plane gets {what}; of other software only level and place, as its texts may quote rows. {kept}."
    )


def _minima(host: PartyHost) -> Iterator[str]:
    policy, limits = host.policy, host.limits
    if policy.min_intersection_rows > 1:
        yield f"An intersection of fewer than {policy.min_intersection_rows:,} rows is kept and told by nobody."
    if policy.min_group_rows > 1:
        yield f"No figures are told of fewer than {policy.min_group_rows:,} rows."
    if not (policy.min_intersection_rows > 1 and policy.min_group_rows > 1):
        yield "Results may tell of single rows: see min_intersection_rows and min_group_rows."
    most = {
        "MB of memory": limits.max_memory_mb,
        "seconds": limits.max_run_seconds,
        "MB of disk": limits.max_disk_mb,
    }
    said = [f"{number:,} {what}" for what, number in most.items() if number]
    yield (
        f"A run is ended once it takes more than {' or '.join(said)}."
        if said
        else "A run may take any memory, time and disk."
    )


def _tables(host: PartyHost) -> Iterator[str]:
    if not host.entries:
        yield "No dataset is registered, so tasks can read nothing but earlier results."
    for name, entry in host.entries.items():
        yield f"Dataset {name} ({host.registered()[name].path}): {'; '.join(_conditions(host, name, entry))}."


def _conditions(host: PartyHost, name: str, entry: DatasetEntry) -> Iterator[str]:
    columns = f"columns {', '.join(entry.columns)}" if entry.columns else "all columns"
    yield f"{columns} may be used in {_listed(entry.task_types or host.policy.task_types, 'all task types')}"
    yield f"with {_listed(entry.peers or host.policy.peers, 'any party')}"
    if entry.uses is not None:
        yield f"by {_count(entry.uses, 'execution')}, of which {host.uses.taken(name):,} have been"
    yield f"until {entry.expires:%Y-%m-%d}" if entry.expires else "without an end"


def _listed(names: Sequence[str], everything: str) -> str:
    if "*" in names:
        return everything
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:]))) or "nothing"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
