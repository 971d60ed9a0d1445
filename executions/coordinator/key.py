"""The coordinator's own key, which signs what it asks of the parties. No other process of the control plane has it."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from controlplane.environment import environment
from workers.contract.errors import ConfigError
from workers.contract.signing import Signer


class NoKey(ConfigError):
    """The coordinator cannot sign; the text says why."""


@cache
def own_key() -> Signer:
    """Return the key of this installation, made when it is first needed. Raises NoKey."""
    path = environment.signing_key_path
    try:
        with suppress(FileExistsError):  # there is one, or another coordinator makes it in this moment
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                return Signer.create(path)
        return Signer.load(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise NoKey(
            f"the key that signs orders to the parties (CONTROLPLANE_SIGNING_KEY) cannot be used: {reason}"
        ) from None
