"""The web server: gunicorn's settings, `gunicorn --config python:itsm_portal.web_server itsm_portal.wsgi`."""

import socket
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

worker_class = "itsm_portal.web_server.Worker"
threads = 16
keepalive = 65
timeout = 60
# Connections that wait until a worker takes them; more is up to the kernel (net.core.somaxconn).
backlog = 4096
control_socket_disable = True

_AT_ONCE = 64


class Worker(ThreadWorker):
    """Takes all connections that wait, where gunicorn takes one each time it comes round; says how many requests wait.

    It comes round a few hundred times a second while its threads are busy. When a whole fleet calls at the same moment,
    the queue before it overflows, and devices whose connection was dropped try again after up to a minute.

    With each request the application is told as `itsm_portal.waiting` how many others wait for a thread.
    """

    wsgi: Any

    def load_wsgi(self) -> None:
        super().load_wsgi()
        application = self.wsgi

        def told(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ["itsm_portal.waiting"] = self.tpool._work_queue.qsize()
            answer: Iterable[bytes] = application(environ, start_response)
            return answer

        self.wsgi = told

    def accept(self, listener: socket.socket) -> None:
        for _ in range(min(_AT_ONCE, self.worker_connections - self.nr_conns)):
            open_before = self.nr_conns
            super().accept(listener)
            if self.nr_conns == open_before:
                return
