"""Secrets at rest: encrypted with the newest key, read with any, and said to be lost where no key is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from controlplane.documents import encryption as vault
from controlplane.environment import environment
from controlplane.models import DeviceConfig, Party
from executions.coordinator.dispatch import Dispatcher
from executions.models import Execution
from executions.states import Status
from tests.composed import admin_client, superuser
from tests.rules.base import pseudonyms
from tests.simulated import add_worker, status
from workers.contract.errors import ConfigError
from workers.contract.secrets import MASK, masked
from workers.host.key import PartyKey, with_secrets_opened

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SECRET = {"hsm_config": {"token": "the token", "pins": {"alice": "1234", "bob": "5678"}}}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use(monkeypatch, OLD)
    yield
    vault._keys.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    monkeypatch.setattr(environment, "encryption_keys", list(found))
    vault._keys.cache_clear()


def test_a_party_reads_what_is_sealed_for_it_and_nothing_of_another(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("alice") / "party.key"
    alice = PartyKey.create(path)
    assert path.stat().st_mode & 0o077 == 0
    stored = vault.protect_all(SECRET, {})
    assert "the token" not in str(stored)
    sent = vault.sealed_for("alice", alice.public_key, stored, ["alice", "bob"], "x-1")
    assert with_secrets_opened(sent, path, "x-1") == {
        "hsm_config": {"token": "the token", "pins": {"alice": "1234", "bob": MASK}}
    }
    with pytest.raises(ConfigError, match="not sealed for this host's key"):
        with_secrets_opened(sent, path, "x-2")
    with pytest.raises(ConfigError, match=r"run `manage\.py party keys` on it"):
        with_secrets_opened(sent, path.with_name("missing"), "x-1")
    assert masked(sent) == masked(stored) == masked(SECRET)


def test_keys_are_changed_by_putting_a_new_one_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stored = vault.protect_all(SECRET, {})
    use(monkeypatch, NEW, OLD)
    assert vault.protect_all(SECRET, stored) == stored, "the same secrets are no change"
    key = PartyKey.create(tmp_path_factory.mktemp("alice") / "party.key").public_key
    vault.sealed_for("alice", key, stored, ["alice", "bob"], "x-1")
    use(monkeypatch, NEW)
    with pytest.raises(ConfigError, match=r"hsm_config\.token was encrypted with a key that is no longer in"):
        vault.sealed_for("alice", key, stored, ["alice", "bob"], "x-1")


@pytest.mark.django_db
def test_an_execution_whose_secrets_are_lost_fails_and_says_so(
    parties: dict[str, Party],
    connection: Redis,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for name, party in parties.items():
        add_worker(connection, name)
        party.public_key = PartyKey.create(tmp_path_factory.mktemp(name) / "party.key").public_key
        party.save()
    documents = pseudonyms()
    documents["task_config"] |= {
        "data_sources": {"alice": "customers", "bob": "clients"},
        "algorithm_params": {"pseudonymise_params": {"columns": {"alice": "uid", "bob": "user_id"}}},
    }
    execution = Execution.objects.submit(documents)
    use(monkeypatch, NEW)
    Dispatcher(connection).step()
    assert status(execution) == Status.FAILURE
    assert execution.error_type == "ConfigError"
    assert execution.error.endswith("no longer in CONTROLPLANE_ENCRYPTION_KEYS; enter it again")


@pytest.mark.django_db
def test_a_configuration_keeps_its_secret_where_the_mask_comes_back(parties: dict[str, Party]) -> None:
    config = DeviceConfig(name="rack", layer="hsm_config", document={"token": "the token"})
    config.full_clean()
    config.save()
    stored = config.document["token"]
    assert stored.startswith(vault.ENCRYPTED)
    config.document = {"token": MASK, "length": 12}
    config.full_clean()
    assert config.document == {"token": stored, "length": 12}


@pytest.mark.django_db
def test_the_history_shows_that_a_secret_is_another_one_and_neither_of_them() -> None:
    config = DeviceConfig(name="rack", layer="hsm_config", document={"token": "the token", "length": 12})
    config.full_clean()
    config.save()
    first = config.document["token"]
    config.document = {"token": "another token", "length": 12}
    config.full_clean()
    config.save()
    config.document = {"token": MASK, "length": 13}
    config.full_clean()
    config.save()
    page = admin_client(superuser()).get(f"/admin/controlplane/deviceconfig/{config.pk}/history/").content.decode()
    assert f"{MASK} -&gt; {MASK} (another one)" in page
    assert page.count("(another one)") == 1, "the last change was another's"
    assert "12 -&gt; 13" in page
    for secret in (first, config.document["token"], vault.ENCRYPTED):
        assert secret not in page
