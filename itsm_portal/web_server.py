"""The web server: gunicorn's settings, `gunicorn --config python:itsm_portal.web_server itsm_portal.wsgi`."""

import socket

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
    """Takes all connections that wait, where gunicorn takes one each time it comes round.

    It comes round a few hundred times a second while its threads are busy. When a whole fleet calls at the same moment,
    the queue before it overflows, and devices whose connection was dropped try again after up to a minute.
    """

    def accept(self, listener: socket.socket) -> None:
        for _ in range(min(_AT_ONCE, self.worker_connections - self.nr_conns)):
            open_before = self.nr_conns
            super().accept(listener)
            if self.nr_conns == open_before:
                return
