"""Commands for a party host: its party.toml, its keys, the logs of its runs, and what is left over on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from controlplane.environment import environment
from controlplane.host import approvals, logs
from controlplane.management.redis import connect_to_redis
from workers.contract.connection import trouble
from workers.contract.errors import ConfigError
from workers.contract.signing import Signer
from workers.host.inspection import inspect
from workers.host.key import PartyKey
from workers.host.new_party import Answers, check_new, write_party
from workers.host.party import PartyHost
from workers.host.permits import permits
from workers.host.stream import Stream
from workers.runtime.leftovers import Leftover, Leftovers, ask

DAY = 86_400.0


class Command(BaseCommand):
    help = "Look after this party host: its party.toml, its keys, the logs of its runs, and what is left over on it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", metavar="command", required=True)
        _add_init(
            commands.add_parser("init", help="Write a new party.toml (PARTY_TOML); asks for what no option says.")
        )
        commands.add_parser("check", help="Look at party.toml and all that it names; fails if anything is wrong.")
        commands.add_parser("show", help="Say in words what party.toml permits, and who learns what.")
        commands.add_parser("keys", help="Print this party's public keys; makes those that are missing.")
        prune = commands.add_parser(
            "prune",
            help="Remove journals, logs, temporary files, and outputs that nothing on the control plane names.",
        )
        prune.add_argument(
            "--days", type=float, default=30.0, help="Only what was not touched for so many days. Default: 30."
        )
        prune.add_argument("--dry-run", action="store_true", help="Remove nothing, and list what would go.")
        prune.add_argument("--yes", action="store_true", help="Do not ask.")
        prune.add_argument(
            "--wait",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="How long to wait for the control plane's answer; 0 to leave all outputs. Default: 10.",
        )

        logs.add_command(commands)
        approvals.add_commands(commands)

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        commands: dict[str, Callable[..., None]] = {
            "init": self._init,
            "check": self._check,
            "show": self._show,
            "keys": self._keys,
            "prune": self._prune,
            "logs": self._logs,
        }
        try:
            if command in approvals.COMMANDS:
                approvals.run(PartyHost.load(environment.party_toml), command, options, self.stdout)
            else:
                commands[command](**options)
        except ConfigError as error:
            raise CommandError(str(error)) from None

    def _init(self, yes: bool, **said: Any) -> None:
        path = environment.party_toml
        check_new(path)
        write_party(path, _answers(said, ask=not yes))
        self.stdout.write(
            f"wrote {path}; now run `manage.py party keys`, then `manage.py party check` and `manage.py party show`"
        )

    def _check(self, **_: Any) -> None:
        host = PartyHost.load(environment.party_toml)
        findings = list(inspect(host, environment.party_toml))
        for found in findings:
            self.stdout.write(f"{'ok   ' if found.is_right else 'wrong'}  {found.what}: {found.said}")
        if wrong := sum(not found.is_right for found in findings):
            raise CommandError(f"{wrong} of {len(findings)} are wrong.")

    def _show(self, **_: Any) -> None:
        for line in permits(PartyHost.load(environment.party_toml)):
            self.stdout.write(line)

    def _logs(self, **options: Any) -> None:
        logs.run(PartyHost.load(environment.party_toml), options, self.stdout, self.stderr)

    def _keys(self, **_: Any) -> None:
        host = PartyHost.load(environment.party_toml)
        path = host.key_path
        try:
            sealing = PartyKey.load(path) if path.exists() else PartyKey.create(path)
            path = host.signing_key_path
            signing = Signer.load(path) if path.exists() else Signer.create(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CommandError(f"{path} cannot be used: {reason}.") from None
        self.stdout.write(f"For the page of {host.name} on the control plane; the private keys stay here.")
        self.stdout.write(f"public key:  {sealing.public_key}")
        self.stdout.write(f"signing key: {signing.public_key}")

    def _prune(self, days: float, dry_run: bool, yes: bool, wait: float, **_: Any) -> None:
        if days <= 0:
            raise CommandError("--days should be more than 0.")
        host = PartyHost.load(environment.party_toml)
        approvals.check_user(host)
        leftovers = Leftovers(host, days * DAY)
        try:
            found, outputs = list(leftovers.files()), leftovers.outputs()
        except OSError as error:  # a worker may have removed something in this moment
            raise CommandError(f"{error.filename} cannot be looked at: {error.strerror}. Try again.") from None
        unnamed, why = self._unnamed(host, outputs, wait)
        found += unnamed
        if found:
            self.stdout.write(_table(host.name, found))
            if not dry_run:
                self._remove(found, yes)
        else:
            self.stdout.write("nothing is left over")
        if why:
            raise CommandError(why)

    def _unnamed(self, host: PartyHost, outputs: dict[str, Leftover], wait: float) -> tuple[list[Leftover], str]:
        """Return the outputs that nothing names, and why that is not known of some."""
        if not outputs or not wait:
            return [], ""
        try:
            named = ask(Stream(connect_to_redis(), host.name, host.signer), outputs, wait)
        except ConfigError as error:
            return [], str(error)
        except (RedisError, OSError) as error:
            return [], f"{trouble(error)}. All outputs were left."
        unknown = len(outputs) - len(named)
        why = f"no coordinator answered within {wait:g} s for {unknown:,} outputs, which were left" if unknown else ""
        return [output for name, output in outputs.items() if named.get(name) is False], why

    def _remove(self, found: list[Leftover], yes: bool) -> None:
        size = decimal(sum(one.size for one in found))
        if not yes and not approvals.agreed(f"Remove these {len(found):,} ({size})? [y/N] "):
            raise CommandError("Nothing was removed.")
        removed, wrong = 0, []
        for one in found:
            try:
                removed += one.remove()
            except OSError as error:
                wrong.append(f"{one.path} was not removed: {error.strerror}")
        self.stdout.write(f"removed {removed:,} of {len(found):,}")
        if wrong:
            raise CommandError("\n".join(wrong))


def _add_init(init: Any) -> None:
    init.add_argument("--party", help="This party's name, as registered on the control plane.")
    init.add_argument("--peers", nargs="+", help='Parties that it computes with; "*" for all.')
    init.add_argument("--task-types", nargs="+", help='Task types that it takes part in; "*" for all.')
    init.add_argument("--publish", choices=["nothing", "columns", "counts"], help="What is told of its tables.")
    init.add_argument("--approve", choices=["never", "ask"], help="Whether a person approves each execution.")
    init.add_argument(
        "--dataset", nargs=2, action="append", metavar=("NAME", "PATH"), help="A table; may be given several times."
    )
    init.add_argument(
        "--control-plane-key", nargs="+", help="What `manage.py signing_key` prints on the control plane, ed25519:..."
    )
    init.add_argument("--yes", action="store_true", help="Do not ask: what no option says is as strict as it can be.")


def _answers(said: dict[str, Any], *, ask: bool) -> Answers:
    """Return what the options say, and what whoever sits here says to questions about the rest."""

    def answer(name: str, question: str, otherwise: str = "") -> str:
        if said.get(name):
            return str(said[name])
        if not ask:
            return otherwise
        try:
            return input(f"{question}{f' [{otherwise}]' if otherwise else ''}: ").strip() or otherwise
        except EOFError:
            raise CommandError("Nobody answers; give options, and --yes. Nothing was written.") from None

    def several(name: str, question: str) -> list[str]:
        return said.get(name) or answer(name, f"{question} (separated by blanks)").replace(",", " ").split()

    party = answer("party", "Name of this party, as registered on the control plane")
    peers = several("peers", "Parties that it computes with, * for all")
    task_types = several("task_types", "Task types that it takes part in, such as psi and lr, * for all")
    for option, value in (("--party", party), ("--peers", peers), ("--task-types", task_types)):
        if not value:
            raise CommandError(f"{option} is missing. Nothing was written.")
    publish = answer("publish", "What may be told of its tables: nothing, columns or counts", "columns")
    approve = answer("approve", "Does a person approve each execution: never or ask", "never")
    datasets = dict(said.get("dataset") or ())
    while ask and not said.get("dataset"):
        if not (name := answer("", f"Name of {'a' if not datasets else 'another'} dataset, empty for no more")):
            break
        datasets[name] = answer("", f"Path of the file of {name}, CSV with a header line")
    keys = several("control_plane_key", "Signing key of the control plane, ed25519:..., empty to add it later")
    return Answers(party, peers, task_types, publish, approve, datasets, keys)


def _table(party: str, found: list[Leftover]) -> str:
    table = Table(box=None, title=f"left over at {party}", title_justify="left")
    for heading in ("what", "path", "size", "last changed"):
        table.add_column(heading, overflow="fold")
    for one in found:
        changed = datetime.fromtimestamp(one.at).astimezone()
        table.add_row(one.what, str(one.path), decimal(one.size), f"{changed:%Y-%m-%d %H:%M}")
    console = Console(width=160)
    with console.capture() as shown:
        console.print(table, markup=False)
    return shown.get()
