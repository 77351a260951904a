"""The worker of the web server, with real sockets."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from itsm_portal import web_server
from itsm_portal.embedded import HOST

WAITING = 100


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """With `WAITING` connections that nobody has taken."""
    with socket.create_server((HOST, 0), backlog=2 * WAITING) as server:
        server.setblocking(False)
        clients = [socket.create_connection(server.getsockname()) for _ in range(WAITING)]
        yield server
        for client in clients:
            client.close()


class _Counting(web_server.Worker):
    def __init__(self, worker_connections: int) -> None:
        config = Config()
        config.set("worker_connections", worker_connections)
        super().__init__(0, 0, [], None, 30, config, None)
        self.taken: list[Any] = []

    def enqueue_req(self, conn: Any) -> None:
        self.taken.append(conn)

    def close(self) -> None:
        for conn in self.taken:
            conn.close()


def test_all_that_wait_are_taken_in_few_rounds(listener: socket.socket) -> None:
    worker = _Counting(worker_connections=1000)
    worker.accept(listener)
    assert 1 < len(worker.taken) < WAITING, "others than those who call have their turn in between"
    worker.accept(listener)
    assert worker.nr_conns == len(worker.taken) == WAITING
    worker.accept(listener)
    assert worker.nr_conns == len(worker.taken) == WAITING, "nobody waits any more"
    worker.close()


def test_no_more_are_taken_than_the_worker_may_hold(listener: socket.socket) -> None:
    worker = _Counting(worker_connections=10)
    worker.accept(listener)
    assert worker.nr_conns == len(worker.taken) == 10
    worker.accept(listener)
    assert len(worker.taken) == 10
    worker.close()


def test_each_request_is_told_how_many_wait_for_a_thread() -> None:
    told: list[int] = []
    config = Config()
    config.set("threads", 1)
    application = SimpleNamespace(wsgi=lambda: lambda environ, _: told.append(environ["itsm_portal.waiting"]) or [])
    worker = web_server.Worker(0, 0, [], application, 30, config, None)
    worker.tpool = worker.get_thread_pool()
    worker.load_wsgi()
    worker.wsgi({}, None)
    is_begun, may_end = threading.Event(), threading.Event()
    worker.tpool.submit(lambda: (is_begun.set(), may_end.wait(60)))
    is_begun.wait(60)
    for _ in range(3):
        worker.tpool.submit(may_end.wait, 60)
    worker.wsgi({}, None)
    may_end.set()
    worker.tpool.shutdown()
    assert told == [0, 3]
