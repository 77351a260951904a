"""The software of the fleet: it notes on the CI's disk each time it was installed, and can be held in the middle."""

import io
import json
import tarfile
import time
from pathlib import Path

PRODUCT = "billing"

# The check runs after the switch, so a CI that is held has the new version on its disk and has not said so yet.
HEALTH = '''"""Healthy at once, or when nobody holds this CI any more. Ends with the agent that started it."""
import os, pathlib, sys, time

root, parent = pathlib.Path(os.environ["AGENT_CI_ROOT"]), os.getppid()
hold = root / "hold"
if hold.exists():
    (root / "held.draft").write_text(f"{os.environ['AGENT_VERSION']} {os.getpid()}")
    (root / "held.draft").rename(root / "held")
if (root / "ill").exists():
    sys.exit("it does not start")
while hold.exists():
    if os.getppid() != parent:
        sys.exit("the agent is dead")
    time.sleep(0.02)
with (root / "installed").open("a") as log:
    log.write(os.environ["AGENT_VERSION"] + "\\n")
'''


def _files(label: str) -> dict[str, bytes]:
    check = {"command": ["python3", "-I", "-S", "health.py"], "timeout_seconds": 60}
    software = {"product": PRODUCT, "version": label, "health": check}
    return {"software.json": json.dumps(software).encode(), "health.py": HEALTH.encode(), "payload": b"." * 65536}


def archive_of(label: str) -> bytes:
    """The version as a tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in _files(label).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Host:
    """A CI's folder: its agent's configuration, what is installed there, and the means to hold it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.config = folder / "agent.json"

    def set_up(self, label: str, url: str, token: str) -> None:
        """A host that runs a version which somebody installed by hand, and an agent that is not started yet."""
        version = self.folder / PRODUCT / "versions" / label
        version.mkdir(parents=True)
        for name, content in _files(label).items():
            (version / name).write_bytes(content)
        (self.folder / PRODUCT / "current").symlink_to(f"versions/{label}")
        (self.folder / "token").write_text(token)
        config = {"url": url, "controller_id": self.name, "token_file": "token", "root": ".", "poll_min_seconds": 1}
        self.config.write_text(json.dumps(config))

    def hold(self) -> None:
        """The next installation stops after the switch, until `let_go`."""
        (self.folder / "held").unlink(missing_ok=True)
        (self.folder / "hold").touch()

    def is_to_be_held(self) -> bool:
        return (self.folder / "hold").exists()

    def is_held(self) -> bool:
        return (self.folder / "held").exists()

    def let_go(self) -> None:
        (self.folder / "hold").unlink()

    def fall_ill(self) -> None:
        """Installations fail their health check, until `recover`."""
        (self.folder / "ill").touch()

    def recover(self) -> None:
        (self.folder / "ill").unlink()

    def await_end_of_check(self) -> None:
        """After the agent was killed: until its health check has noticed."""
        pid = (self.folder / "held").read_text().split()[1]
        deadline = time.monotonic() + 10
        while "health.py" in _command_of(pid):
            assert time.monotonic() < deadline, f"the health check of {self.name} goes on without its agent"
            time.sleep(0.02)

    def version(self) -> str:
        """The version that runs; empty: none. `?` in front: its folder is not complete."""
        current = self.folder / PRODUCT / "current"
        if not current.is_symlink():
            return ""
        is_complete = all((current / name).is_file() for name in _files(""))
        return f"{'' if is_complete else '?'}{current.resolve().name}"

    def installations(self) -> list[str]:
        """The labels of what was installed here, one for each time."""
        path = self.folder / "installed"
        return path.read_text().split() if path.exists() else []

    def journal(self) -> list[dict]:
        """What the agent says it has sent, and the answers."""
        path = self.folder / ".agent" / "journal.jsonl"
        rows = []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue  # the line that was being written when the agent was killed
        return rows


def _command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
