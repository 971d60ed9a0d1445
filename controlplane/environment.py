"""Everything that an environment variable can set, in one place. docs/operations.md describes this class."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from cryptography.fernet import Fernet
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from workers.contract.connection import DEFAULT_URL

ROOT = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CONTROLPLANE_", populate_by_name=True)

    state_dir: Path = Field(
        default=ROOT / "var", description="Directory of the SQLite database and the generated keys."
    )
    secret_key: str = Field(default="", description="Django's secret key; generated into the state directory if unset.")
    encryption_keys: list[str] = Field(
        default=[],
        description="Fernet keys for secrets in documents, as JSON, the newest first; generated as above if unset.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="File of the key that signs orders to the parties, which the coordinators read; `signing_key` in "
        "the state directory if unset.",
    )
    debug: bool = Field(default=False, description="Django's debug pages: for development only.")
    allowed_hosts: list[str] = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        description='Host names the site answers to, as JSON: ["a.example"].',
    )
    csrf_trusted_origins: list[str] = Field(
        default=[], description='Origins allowed to post forms when behind a proxy, as JSON: ["https://a.example"].'
    )
    https: bool = Field(default=False, description="The site is served over HTTPS only: secure cookies, HSTS.")
    proxies: int | None = Field(
        default=None,
        ge=0,
        description="Number of proxies in front that add to X-Forwarded-For; 1 with HTTPS and 0 without if unset.",
    )
    database_url: str = Field(
        default="",
        validation_alias="DATABASE_URL",
        description="postgresql://... ; SQLite in the state directory if unset.",
    )
    redis_url: str = Field(
        default=DEFAULT_URL, validation_alias="REDIS_URL", description="Redis 7 or newer, or Valkey."
    )
    party_toml: Path = Field(
        default=Path("party.toml"),
        validation_alias="PARTY_TOML",
        description="Path of party.toml; used on a party host only.",
    )
    log_format: Literal["line", "json"] = Field(
        default="line", description="How the control plane writes its log: lines for people, or JSON for machines."
    )
    link_hours: int = Field(default=72, ge=1, le=720, description="Hours for which a link to set a password is valid.")
    email_host: str = Field(default="", description="Mail server; without one nothing is mailed.")
    email_port: int = Field(default=587, ge=1, le=65535, description="Port of the mail server.")
    email_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the connection to the mail server is encrypted: starttls, tls or none."
    )
    email_user: str = Field(default="", description="User at the mail server, if it asks for one.")
    email_password: str = Field(default="", repr=False, description="The user's password there.")
    email_from: str = Field(default="", description="Sender of mails; controlplane@ and the mail server if unset.")
    site_url: str = Field(
        default="", description="Address of the site for links in mails and webhooks, such as https://a.example."
    )
    webhooks_to_private: bool = Field(
        default=False, description="Webhooks may lead to private addresses, such as hosts of the own network."
    )
    require_second_factor: bool = Field(
        default=False, description="Users who may change things need a second factor to use the console."
    )
    worker_grace_seconds: float = Field(
        default=8,
        ge=0,
        description="How long an execution waits for a party without a live worker before its first try.",
    )
    requests_per_minute: int = Field(
        default=3000,
        ge=0,
        description="Requests to the API that each token, or user of the console, may send in a minute to each web "
        "process; 0 for any number.",
    )
    most_queued: int = Field(
        default=50_000,
        ge=1,
        description="Executions that may be queued; beyond that the API takes no more.",
    )
    prune_hourly: bool = Field(
        default=True, description="The coordinator removes what is old once an hour; if not, `manage.py prune` does."
    )
    keep_executions_days: int = Field(
        default=365, ge=0, description="Days from an execution's end to its removal; 0 keeps them for ever."
    )
    keep_pipeline_runs_days: int = Field(default=365, ge=0, description="The same for runs of pipelines.")
    keep_ticks_days: int = Field(default=90, ge=0, description="The same for the times at which schedules were due.")
    keep_logs_days: int = Field(
        default=30, ge=0, description="The same for the lines of logs that parties send; none outlives its execution."
    )
    keep_dead_letters_days: int = Field(default=30, ge=0, description="The same for dead letters.")
    keep_notifications_days: int = Field(default=90, ge=0, description="The same for notifications.")
    keep_deliveries_days: int = Field(default=30, ge=2, description="The same for what was posted to webhooks.")
    keep_history_days: int = Field(
        default=730, ge=0, description="The same for older versions of what is registered, and the admin's log."
    )
    keep_sessions_days: int = Field(default=1, ge=0, description="The same for sessions that have expired.")
    keep_answers_days: int = Field(
        default=1, ge=1, description="The same for the answers to writes that had an Idempotency-Key."
    )
    keep_tokens_days: int = Field(default=30, ge=0, description="The same for API tokens that have expired.")

    @property
    def signing_key_path(self) -> Path:
        """Return the file of the key that signs orders to the parties."""
        return self.signing_key or self.state_dir / "signing_key"

    @property
    def proxy_count(self) -> int:
        """Return the number of proxies in front whose X-Forwarded-For is believed."""
        return int(self.https) if self.proxies is None else self.proxies

    def secret(self) -> str:
        """Return the secret key; a generated one if none is set."""
        return self.secret_key or self._generated("secret_key", lambda: secrets.token_urlsafe(48))

    def encryption_key_list(self) -> list[str]:
        """Return the keys for secrets at rest; a generated one if none is set."""
        return self.encryption_keys or [self._generated("encryption_key", lambda: Fernet.generate_key().decode())]

    def _generated(self, name: str, generate: Callable[[], str]) -> str:
        """Return a secret from a file of the state directory. Makes the file, readable by its owner only, if it is
        missing."""
        path = self.state_dir / name
        if not path.exists():
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_suffix(f".{secrets.token_hex(8)}")
            fresh.touch(mode=0o600)
            fresh.write_text(generate())
            with suppress(FileExistsError):  # another process may have made the file first: both then read the same key
                path.hardlink_to(fresh)
            fresh.unlink()
        return path.read_text()


environment = Environment()
