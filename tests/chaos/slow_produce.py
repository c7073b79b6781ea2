"""A proxy on loopback that holds up what is produced, and lets everything else through at once."""

import asyncio
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

PRODUCE = 0  # the api key of a produce request
_HEAD = struct.Struct(">ih")  # a request begins with its length and its api key
HOST = "127.0.0.1"


class SlowProduce:
    """Stands between clients and the nodes of a cluster.

    A request is held up as a network would: those that follow on the same connection stay behind
    it, and each is late by the delay, not by the sum of the delays.

    Parameters
    ----------
    ports
        Where to listen, and the node's port behind it, for each node.
    delay_s
        Added to each produce request.
    """

    def __init__(self, ports: Sequence[tuple[int, int]], delay_s: float) -> None:
        self._ports = ports
        self.delay_s = delay_s
        self.delayed = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="slow-produce", daemon=True)
        self._ready = threading.Event()
        self._done: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._done is not None
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        def accept(behind: int) -> object:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                connections.add(task)
                try:
                    await self._connect(behind, reader, writer)
                except asyncio.CancelledError:
                    pass  # the proxy ends; asyncio's own callback wants no cancelled task
                finally:
                    connections.discard(task)

            return handle

        servers = [
            await asyncio.start_server(accept(behind), HOST, port)  # type: ignore[arg-type]
            for port, behind in self._ports
        ]
        self._ready.set()
        await self._done.wait()
        for server in servers:
            server.close()
        for connection in list(connections):
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connect(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one client's bytes until either side ends."""
        try:
            node_reader, node_writer = await asyncio.open_connection(HOST, port)
        except OSError:  # the node is down: so is the way to it
            writer.close()
            return
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        ways = [
            asyncio.create_task(self._take(reader, held)),
            asyncio.create_task(self._give(held, node_writer)),
            asyncio.create_task(_carry(node_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, node_writer):
                end.close()

    async def _take(
        self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        """Read requests, and note when each may go on."""
        due = 0.0
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(_HEAD.size)
                length, api_key = _HEAD.unpack(head)
                body = await reader.readexactly(length + 4 - _HEAD.size)
                if api_key == PRODUCE:
                    due = max(due, self._loop.time() + self.delay_s)
                    self.delayed += 1
                held.put_nowait((due, head + body))

    async def _give(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while True:
                due, request = await held.get()
                await asyncio.sleep(max(due - self._loop.time(), 0))
                writer.write(request)
                await writer.drain()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while answer := await reader.read(1 << 16):
            writer.write(answer)
            await writer.drain()
