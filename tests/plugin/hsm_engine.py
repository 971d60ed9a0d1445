"""What the device of hsm_device computes with: imported where it is brought up, and nowhere else."""

from __future__ import annotations

import hmac
import socket
from typing import Any


class LiveHSM:
    def __init__(self, config: Any, listener: socket.socket) -> None:
        self.config, self.listener = config, listener

    def pseudonym(self, value: str) -> str:
        found = hmac.new(self.config.token.encode(), value.encode(), self.config.digest)
        return found.hexdigest()[: self.config.length]
