"""A TCP proxy between agents and portal that can delay, swallow and cut connections."""

import asyncio
import contextlib
import threading

PASS, DELAY, SWALLOW, CUT = "pass", "delay", "swallow", "cut"
_BLOCK = 65_536


class Proxy:
    """Listens on a port of its own, in a thread of its own. `mode` may be changed at any time:

    pass · delay (each block waits for `seconds`) · swallow (what the portal answers is lost; the connection stays open)
    · cut (connections end in the middle).
    """

    def __init__(self, host: str, target: int) -> None:
        self.mode, self.seconds = PASS, 0.5
        self.port = 0
        self._host, self._target = host, target
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, self._host, 0, backlog=1000))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            to_portal = None
            try:
                from_portal, to_portal = await asyncio.open_connection(self._host, self._target)
                there = asyncio.create_task(self._pump(reader, to_portal, is_answer=False))
                back = asyncio.create_task(self._pump(from_portal, writer, is_answer=True))
                _done, left = await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                for task in left:
                    task.cancel()
            finally:
                for end in (writer, to_portal):
                    if end is not None:
                        end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(_BLOCK):
                if self.mode == DELAY:
                    await asyncio.sleep(self.seconds)
                if self.mode == CUT and is_answer:
                    return
                if self.mode == SWALLOW and is_answer:
                    continue
                writer.write(block)
                await writer.drain()
