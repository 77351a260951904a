"""One CI of the tests: its folder, its configuration, and agents in or outside this process."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from agent.config import load_config
from agent.errors import Stopped
from agent.runner import Agent, run_agent
from tests.agent.ddi_server import TOKEN, DdiServer

REPOSITORY = Path(__file__).resolve().parents[2]


def software(product: str, version: str, *, healthy: bool | None = True, text: str = "", size: int = 0) -> bytes:
    """A good archive; ``healthy`` False: the check fails, None: no check. ``size`` adds random bytes."""
    info: dict[str, Any] = {"product": product, "version": version}
    files = {"app.txt": (text or f"{product} {version}").encode()}
    if healthy is not None:
        info["health"] = {"command": ["sh", "health.sh"], "timeout_seconds": 10}
        files["health.sh"] = f"echo checking {product}\nexit {0 if healthy else 3}\n".encode()
    if size:
        files["blob.bin"] = os.urandom(size)
    return archive({"software.json": json.dumps(info).encode(), **files})


def archive(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """A tar.gz of plain ``files`` and further ``members`` without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for entry in members:
            tar.addfile(entry, io.BytesIO(b"\0" * entry.size) if entry.isreg() else None)
    return gzip.compress(buffer.getvalue(), 6, mtime=0)


class NoSignals:
    """Stands for the process's signals when the agent runs inside the test."""

    stop = False

    def wait(self, seconds: float) -> None:
        if self.stop:
            raise Stopped


class Ci:
    """A CI folder below ``folder`` whose agent talks to ``server``."""

    def __init__(self, folder: Path, server: DdiServer, **settings: Any) -> None:
        self.folder = folder
        self.root = folder / "ci"
        self.server = server
        (folder / "token").write_text(TOKEN + "\n")
        self.config_file = folder / "agent.json"
        self.settings: dict[str, Any] = {}
        self.configure(**settings)

    def configure(self, **settings: Any) -> None:
        """Sets further settings; those set before stay."""
        self.settings.update(settings)
        base = {
            "url": self.server.url,
            "controller_id": "ci-0001",
            "token_file": "token",
            "root": "ci",
            "poll_min_seconds": 0.05,
            "http_timeout": 5,
            "download_give_up_seconds": 5,
        }
        self.config_file.write_text(json.dumps({**base, **self.settings}))

    def leave_out(self, key: str) -> None:
        """Takes a setting out of the configuration."""
        settings = json.loads(self.config_file.read_text())
        del settings[key]
        self.config_file.write_text(json.dumps(settings))

    def cycle(self) -> bool:
        """One poll by an agent inside this process, started anew."""
        config = load_config(self.config_file)
        (config.agent_folder / "downloads").mkdir(parents=True, exist_ok=True)
        return Agent(config, NoSignals()).run(once=True)  # type: ignore[arg-type]

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        """An agent as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(self.config_file), *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
        )

    def once(self, **environment: str) -> int:
        """One poll by a process of its own; its exit code, negative when a signal killed it."""
        process = self.start("--once", **environment)
        process.communicate(timeout=90)
        return process.returncode

    def seed(self, product: str, version: str, text: str) -> None:
        """Puts a version there by hand, as an administrator would, without the agent's marker."""
        folder = self.root / product / "versions" / version
        folder.mkdir(parents=True)
        (folder / "app.txt").write_text(text)
        (folder / "software.json").write_text(json.dumps({"product": product, "version": version}))
        link = self.root / product / "current"
        link.unlink(missing_ok=True)
        link.symlink_to(f"versions/{version}")

    def running(self, product: str = "app") -> str | None:
        """What ``current`` points to, None without it; the folder must be whole."""
        link = self.root / product / "current"
        if not link.is_symlink():
            return None
        assert (link / "software.json").is_file(), "current points to half a version"
        assert (link / "app.txt").is_file(), "current points to half a version"
        return os.readlink(link).removeprefix("versions/")

    def text(self, product: str = "app") -> str:
        return (self.root / product / "current" / "app.txt").read_text()

    def leftovers(self) -> list[str]:
        """Names of work in progress that nobody needs any more."""
        found = [path.name for path in (self.root / ".agent" / "downloads").glob("*")]
        for versions in self.root.glob("*/versions"):
            found += [path.name for path in versions.glob(".*")]
        return found + [path.name for path in self.root.glob("*/.current*")]

    def state(self) -> dict[str, Any]:
        return json.loads((self.root / ".agent" / "state.json").read_bytes())

    def trust(self) -> dict[str, Any]:
        return json.loads((self.root / ".agent" / "trust.json").read_bytes())

    def status(self) -> dict[str, Any]:
        return json.loads((self.root / ".agent" / "status.json").read_bytes())

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / ".agent" / "journal.jsonl").read_text().splitlines()]


__all__ = ["Ci", "NoSignals", "archive", "run_agent", "software"]
