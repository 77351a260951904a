"""A real OpenSSH server on the loopback: one `sshd -i` for each connection, on a port that the kernel chose."""

import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
USER = pwd.getpwuid(os.getuid()).pw_name


def can_set_passwords() -> bool:
    """Whether a server of its own may see other passwords than the machine: root with a mount namespace."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


class SshServer:
    """Lets this test's user in with its key; with `password` also by that one. `log` is what the server wrote.

    `within` is a command in front of the server's: where its sessions are.
    """

    def __init__(self, folder: Path, password: str | None = None, *, within: Sequence[str] = ()) -> None:
        folder.mkdir()
        self.folder = folder
        self.log = folder / "log"
        for name in ("host", "user", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True
            )
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        self._command = [*within, str(SSHD), "-i", "-f", str(self._config()), "-E", str(self.log)]
        if password is not None:
            self._command = ["unshare", "--mount", "sh", "-c", self._with_shadow(password)]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def host_key(self) -> str:
        return (self.folder / "host.pub").read_text()

    @property
    def strange_key(self) -> str:
        return (self.folder / "stranger.pub").read_text()

    @property
    def private_key(self) -> str:
        return (self.folder / "user").read_text()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with connection:
                subprocess.Popen(self._command, stdin=connection, stdout=connection, stderr=subprocess.DEVNULL)

    def _config(self) -> Path:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            f"HostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\n"
            "UsePAM no\nPermitRootLogin yes\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\n"
            "LogLevel VERBOSE\nUseDNS no\nPrintMotd no\nSubsystem sftp internal-sftp\nPidFile none\n"
        )
        return config

    def _with_shadow(self, password: str) -> str:
        done = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True, check=True
        )
        lines = [line for line in Path("/etc/shadow").read_text().splitlines() if not line.startswith(f"{USER}:")]
        shadow = self.folder / "shadow"
        shadow.write_text("\n".join([f"{USER}:{done.stdout.strip()}:20000:0:99999:7:::", *lines]) + "\n")
        shadow.chmod(0o600)
        return f"mount --bind {shadow} /etc/shadow && exec {' '.join(self._command)}"
