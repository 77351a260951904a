"""The embedded Valkey."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
from typing import IO

from itsm_portal.embedded.base import HOST, valkey_binary
from itsm_portal.embedded.server import Server


class EmbeddedValkey(Server):
    """Valkey with an append-only file in `folder`; `durable=False` keeps everything in memory only."""

    kind = "Valkey"
    command = "valkey-server"

    def _prepare(self) -> None:
        self._binary = valkey_binary()
        self.command = self._binary.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._take_folder(self.folder)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        password = secrets.token_urlsafe(24)
        self.url = f"redis://:{password}@{HOST}:{self.port}/0"
        quoted = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        settings = [
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {password}",
            f'dir "{quoted}"',
            f"appendonly {'yes' if self.durable else 'no'}",
            'save ""',
            "daemonize no",
        ]
        # the settings go through standard input because everybody may read a command line
        process = self._popen([self._binary, "-"], cwd=self.folder, stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it ended: _launch() reports that
            pipe.write("\n".join(settings).encode())
        return process

    def _ready(self) -> bool:
        password = self.url.split("@")[0].rpartition(":")[2]
        with socket.create_connection((HOST, self.port), timeout=2) as peer:
            peer.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return peer.makefile("rb").readline() == b"+OK\r\n"  # "-LOADING": not yet
