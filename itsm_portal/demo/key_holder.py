"""The key holder of the story: a throw-away root key and release key, used by processes of their own.

The portal's processes get the public root key only. What has to be signed leaves the portal as a file, and comes back
as one.
"""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent.parent


class KeyHolder:
    """Somebody with a folder of his own, who runs `python -m signing` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> str:
        """Makes the keys and the first key set, once. Returns the public root key."""
        root = self.folder / "root.pub"
        if not (self.folder / "keys.json").exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            phrase = self.folder / "passphrase"
            phrase.touch(mode=0o600)
            phrase.write_text(secrets.token_urlsafe(24))
            for name in ("root", "release"):
                (self.folder / name).unlink(missing_ok=True)
                self._run("keygen", name)
            self._run(
                "keys", "--key", "root", "--out", "keys.json", "--root", "root.pub", "--release-key", "release.pub"
            )
        return root.read_text().strip()

    def key_set(self) -> list[dict[str, Any]]:
        """The envelope with the key set."""
        return self._read("keys.json")

    def sign(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Signs what the portal asks for, and gives the envelopes back."""
        (self.folder / "request.json").write_text(json.dumps(request))
        (self.folder / "signed.json").unlink(missing_ok=True)
        self._run("sign", "--key", "release", "--out", "signed.json", "--yes", "request.json")
        return self._read("signed.json")

    def _read(self, name: str) -> list[dict[str, Any]]:
        envelopes: list[dict[str, Any]] = json.loads((self.folder / name).read_text())["envelopes"]
        return envelopes

    def _run(self, command: str, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "signing", command, "--passphrase-file", "passphrase", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(CLONE)},
            check=True,
            capture_output=True,
            timeout=60,
        )
