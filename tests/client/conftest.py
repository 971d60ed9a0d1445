from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from secretflow_controlplane_client import AsyncClient, Client, Retry

from tests.client.server import TOKEN, Server, running

#: Makes a client, calls something of it, and returns what that found; a list of what it yields.
Use = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@pytest.fixture(params=["ordinary", "asyncio"])
def use(request: pytest.FixtureRequest, server: Server) -> Use:
    """Both clients do the same: ``use(lambda client: client.get("6a0e"))``."""

    def ordinary(act: Callable[[Any], Any], **options: Any) -> Any:
        with Client(server.url, TOKEN, **{"retry": Retry(attempts=3, seconds=5), **options}) as client:
            found = act(client)
            return list(found) if isinstance(found, Iterator) else found

    def asynchronously(act: Callable[[Any], Any], **options: Any) -> Any:
        async def acted() -> Any:
            async with AsyncClient(server.url, TOKEN, **{"retry": Retry(attempts=3, seconds=5), **options}) as client:
                found = act(client)
                if hasattr(found, "__aiter__"):
                    return [one async for one in found]
                return await found if inspect.isawaitable(found) else found

        return asyncio.run(acted())

    return ordinary if request.param == "ordinary" else asynchronously
