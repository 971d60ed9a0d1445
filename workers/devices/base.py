"""The base class of devices: what a device layer has to provide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

from workers.contract.documents import Document, SFInitConfig
from workers.contract.problems import Problem


class Device(ABC):
    """A SecretFlow device of one run. Class methods describe the layer; an instance holds the live device."""

    #: Short name, as events and task types use it, such as ``spu``.
    name: ClassVar[str]
    #: Name of the switch in the document, such as ``enable_spu``.
    switch: ClassVar[str]
    #: The layer's pydantic model.
    Document: ClassVar[type[Document]]
    #: SecretFlow's live device, between ``start`` and ``stop``.
    device: Any = None

    @classmethod
    @abstractmethod
    def check(cls, document: Any, cluster: SFInitConfig) -> Iterator[Problem]:
        """Return logic problems of an enabled document, with paths relative to the layer."""

    @classmethod
    def check_security(cls, document: Any) -> Iterator[Problem]:
        """Yield what the production tier of security refuses in an enabled document; paths relative to the layer."""
        yield from ()

    @classmethod
    def complete(cls, document: dict[str, Any], endpoints: dict[str, str]) -> dict[str, Any]:
        """Return the document as it is sent to the parties. ``endpoints``: by party, the ``host:port`` that was leased
        for this device."""
        return document

    @classmethod
    def endpoints(cls, document: Any) -> Iterator[tuple[str, str, str, str | None]]:
        """Yield where parties listen for the device, going by the completed document: path in it, party, ``host:port``
        that its peers use, and the one that it listens on if that differs.

        What is at the path takes the latter as ``listen_address``: a party's host puts its own ``listen_host`` there.
        """
        yield from ()

    #: Number of ports that each party needs for this device.
    ports: ClassVar[int] = 0

    def links(self, document: Any, cluster: SFInitConfig) -> Iterator[tuple[Any, int]]:
        """Yield the links that SecretFlow will make for this device, as descriptions of SPU's link library and this
        party's rank in each; called before ``sf.init``."""
        yield from ()

    @abstractmethod
    def start(self, document: Any, cluster: SFInitConfig) -> None:
        """Bring the device up; called after ``sf.init``. Raises DeviceConfigError, NetworkError or ResourceError."""

    @abstractmethod
    def stop(self) -> None:
        """Drop the device, so that its ports are free when ``sf.shutdown`` returns."""


def stop_all(devices: Iterable[Device]) -> None:
    """Stop devices, whatever becomes of each of them: their process is about to end."""
    for device in devices:
        with suppress(Exception):
            device.stop()
