"""A device with Debian's SWUpdate: its configuration, its one file of software, and its restarts."""

import hashlib
import itertools
from pathlib import Path

from tests.foreign_agents.processes import Processes
from tests.foreign_agents.signed_image import HARDWARE, REVISION

_CONFIGURATION = """
globals: {{ loglevel = 5; public-key-file = "{certificate}"; }};
identify: ( {identify} );
suricatta: {{
    tenant = "DEFAULT";
    id = "{name}";
    url = "{url}";
    {credential};
    retry = 20;
    retrywait = 1;
    initial-report-resend-period = 1;
}};
"""
_boots = itertools.count(1)


class SwupdateDevice:
    """The process runs from `boot()` to `shut_down()`; what it installed stays in `folder`.

    `credential` is a line of the configuration, such as `targettoken = "…"`.
    """

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        *,
        agent_id: str,
        url: str,
        credential: str,
        certificate: Path,
        tells_version: bool,
    ) -> None:
        self.agent_id = agent_id
        self.software = folder / "software.bin"
        self._until, self._supervisor = processes.until, processes.supervisor
        self._folder, self._tells_version = folder, tells_version
        self._values = {"name": agent_id, "url": url, "credential": credential, "certificate": certificate}
        self._process: str | None = None

    def boot(self, confirm: str = "") -> None:
        """Starts the agent. `confirm` is what the boot script found out about an update that was installed before:
        "2" it works, "3" it does not; empty: nothing was installed.
        """
        identify = f'{{ name = "version.billing"; value = "{self.version()}"; }}' if self._tells_version else ""
        configuration = self._folder / "swupdate.cfg"
        configuration.write_text(_CONFIGURATION.format(identify=identify, **self._values))
        configuration.chmod(0o600)
        self._process = f"{self.agent_id}-{next(_boots)}"
        # As under systemd: without it SWUpdate 2022.12 dies when its own log reader gives up on a busy host.
        argv = ["sh", "-c", "trap '' PIPE; exec \"$@\"", "sh"]
        argv += ["swupdate", "-f", str(configuration), "-H", f"{HARDWARE}:{REVISION}"]
        argv += ["-u", f"-c {confirm}" if confirm else "--enable"]
        # Its sockets lie there, too: several may run on one host.
        self._supervisor.add(self._process, argv, env={"TMPDIR": str(self._folder)}, restart=False)

    def shut_down(self) -> None:
        """Returns when no process of it is left."""
        name, self._process = self._process, None
        if name is not None:
            self._supervisor.kill(name)
            self._until("the agent has ended", lambda: self._supervisor.returncode(name) is not None)

    def reboot(self, confirm: str = "") -> None:
        self.shut_down()
        self.boot(confirm)

    def log(self) -> str:
        """What the agent has said since it was booted."""
        assert self._process is not None
        return (self._supervisor.log_dir / f"{self._process}.log").read_text(errors="replace")

    def put_software(self, content: bytes) -> None:
        """What the factory installed."""
        self.software.write_bytes(content)

    def version(self) -> str:
        """The first line of the software names it."""
        with self.software.open("rb") as file:
            return file.readline().decode().strip()

    def sha256(self) -> str:
        return hashlib.sha256(self.software.read_bytes()).hexdigest()
