"""The client for asyncio; the same as ``client`` has for ordinary Python."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from secretflow_controlplane_client import flows
from secretflow_controlplane_client.connection import Connection, answer_of, no_answer
from secretflow_controlplane_client.errors import ControlPlaneError
from secretflow_controlplane_client.models import DryRun, Event, Execution, Gap, LogLine, Resource, Result, Told
from secretflow_controlplane_client.profile import Applied, applied, content_of
from secretflow_controlplane_client.protocol import Answer, Call, Flow, M, NoAnswer, Retry, T, error_of, parsed, write
from secretflow_controlplane_client.stream import Watching


class AsyncClient(Connection):
    """A client of one control plane, for one token. It belongs to one event loop; use it as a context manager, or
    close it. All methods raise ControlPlaneError."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 20.0,
        retry: Retry | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        super().__init__(url, token, timeout=timeout, retry=retry)
        self._http = httpx.AsyncClient(verify=verify)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    # --- executions

    async def submit(
        self,
        task: str | int | None = None,
        *,
        documents: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Execution:
        """Submit a registered task, with ``overrides`` of its documents, or the ``documents`` themselves.

        ``options``: ``name``, ``labels``, ``deadline``, ``priority`` and whatever else the API takes.
        """
        body = flows.submission(task, documents, overrides, options)
        return await self._run(flows.execution_from(write("POST", "executions/", body), self.retrying))

    async def dry_run(
        self,
        task: str | int | None = None,
        *,
        documents: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> DryRun:
        """Return what would happen if this were submitted; nothing is."""
        return await self._run(flows.dry_run(flows.submission(task, documents, overrides, options), self.retrying))

    async def get(self, execution: Execution | str) -> Execution:
        """Return an execution as it is now."""
        return await self._run(
            flows.execution_from(Call("GET", f"executions/{flows.key_of(execution)}/"), self.retrying)
        )

    async def wait(self, execution: Execution | str, limit: float | None = None) -> Execution:
        """Return an execution once it has ended. Raises an error of kind ``time-limit`` after so many seconds."""
        return await self._run(flows.wait(flows.key_of(execution), limit, self.retrying))

    async def result(self, execution: Execution | str, limit: float | None = None) -> Result:
        """Return the result of an execution once it has ended. Raises an error of kind ``not-successful`` if it has
        none."""
        return await self._run(flows.result(flows.key_of(execution), limit, self.retrying))

    async def cancel(self, execution: Execution | str) -> Execution:
        """Stop an execution at all parties. It may be repeated."""
        call = write("POST", f"executions/{flows.key_of(execution)}/cancel/")
        return await self._run(flows.execution_from(call, self.retrying))

    async def retry(self, execution: Execution | str, **changes: Any) -> Execution:
        """Submit an ended execution again, as a new one, with these changes, and return the new one."""
        call = write("POST", f"executions/{flows.key_of(execution)}/retry/", changes)
        return await self._run(flows.execution_from(call, self.retrying))

    def list(self, **filters: Any) -> AsyncIterator[Execution]:
        """Yield executions, newest first, page by page: ``status``, ``task``, ``label``, ``created_after`` and so on,
        as in docs/services.md. A list gives a filter several times."""
        return self._models(Execution, "executions/", filters)

    async def events(
        self, execution: Execution | str | None = None, *, last_event_id: str = "", **filters: Any
    ) -> AsyncIterator[Told]:
        """Yield what happens: to one execution from its beginning to its end, or to all from now on.

        A broken connection is taken up where it broke. ``last_event_id``: the ``position`` of what was told last, to go
        on there. ``filters``, of all executions: ``party``, ``label`` and ``kind`` (``state`` or ``event``).
        """
        key = "" if execution is None else flows.key_of(execution)
        watching = Watching(key, filters, last_event_id, self.retrying)
        while not watching.is_over:
            error: ControlPlaneError | None = None
            call = watching.call()
            try:
                async with self._http.stream(**self.stream_request(call)) as response:
                    watching.check(answer_of(response, b"" if response.status_code == 200 else await response.aread()))
                    async for chunk in response.aiter_bytes():
                        for told in watching.read(chunk):
                            yield told
                            watching.is_over |= isinstance(told, Gap) and bool(key) and (await self.get(key)).has_ended
                        if watching.is_over:
                            return
            except httpx.RequestError as broken:
                error = error_of(call, no_answer(broken))
            except ControlPlaneError as refused:
                error = refused
            await asyncio.sleep(watching.pause(error))

    def reported(self, execution: Execution | str, **filters: Any) -> AsyncIterator[Event]:
        """Yield what the parties have reported so far: ``party``, ``attempt``, ``after_sequence``."""
        return self._models(Event, f"executions/{flows.key_of(execution)}/events/", filters)

    def logs(self, execution: Execution | str, **filters: Any) -> AsyncIterator[LogLine]:
        """Yield the lines of logs that the parties have sent: ``party``, ``level`` (and above), ``attempt``."""
        return self._models(LogLine, f"executions/{flows.key_of(execution)}/logs/", filters)

    # --- what is registered

    def resources(self, kind: str) -> AsyncResources:
        """Return what is registered of a kind: ``parties``, ``datasets``, ``tasks``, ``pipelines``, ``schedules``,
        ``cluster-configs`` and so on."""
        return AsyncResources(self, kind)

    async def apply(self, profile: Mapping[str, Any] | str | Path) -> Applied:
        """Register what a profile names, given as a file's path or its content, and return what changed."""
        return await self._run(applied(content_of(profile), self.retrying))

    async def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """Send any request of the API and return the answer's JSON. ``path`` is below ``/api/v1/``, or whole."""
        given = flows.parameters(params)
        is_read = method in ("GET", "HEAD", "OPTIONS")
        call = Call(method, path, given) if is_read else write(method, path, body, given)
        return await self._run(flows.call(call, self.retrying))

    # --- how it is sent

    async def _models(self, model: type[M], path: str, filters: Mapping[str, Any]) -> AsyncIterator[M]:
        params, cursor = flows.parameters(filters), ""
        while True:
            rows, cursor = await self._run(flows.page(path, params, cursor, self.retrying))
            for row in rows:
                yield parsed(model, row)
            if not cursor:
                return

    async def _run(self, flow: Flow[T]) -> T:
        """Return what a flow finds."""
        given: Answer | NoAnswer | None = None
        try:
            while True:
                step = flow.send(given)
                given = None
                if isinstance(step, Call):
                    given = await self._send(step)
                else:
                    await asyncio.sleep(step.seconds)
        except StopIteration as end:
            found: T = end.value
            return found

    async def _send(self, call: Call) -> Answer | NoAnswer:
        try:
            response = await self._http.request(**self.request(call))
        except httpx.RequestError as error:
            return no_answer(error)
        return answer_of(response, response.content)


class AsyncResources:
    """What is registered of a kind. What was read is changed and deleted only if it still is as it was read; ``etag``
    says otherwise."""

    def __init__(self, client: AsyncClient, kind: str) -> None:
        self._client, self.kind = client, kind.strip("/")

    def list(self, **filters: Any) -> AsyncIterator[Resource]:
        """Yield all of them, page by page."""
        return self._client._models(Resource, f"{self.kind}/", filters)

    async def get(self, which: int | str, **filters: Any) -> Resource:
        """Return one by its id, or by its name; a dataset by its name and ``party__name``."""
        return await self._client._run(flows.find(self.kind, which, filters, self._client.retrying))

    async def create(self, **fields: Any) -> Resource:
        """Register one."""
        call = write("POST", f"{self.kind}/", fields)
        return await self._client._run(flows.resource_from(call, self._client.retrying))

    async def patch(self, which: Resource | int, *, etag: str | None = None, **changes: Any) -> Resource:
        """Change fields of one. Raises an error of kind ``stale`` if somebody else has changed it since."""
        found: Resource = await self._client._run(flows.patch(self.kind, which, changes, etag, self._client.retrying))
        return found

    async def delete(self, which: Resource | int, *, etag: str | None = None) -> None:
        """Delete one. Raises an error of kind ``stale`` if somebody else has changed it since."""
        await self._client._run(flows.delete(self.kind, which, etag, self._client.retrying))
