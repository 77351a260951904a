"""The software of the story: archives of *billing*, one of which has a defect that shows only on some CIs."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

PRODUCT = "billing"
# The defect of 2.0: it cannot run on CIs whose fact `kind` is this.
BROKEN_KIND = "legacy"
PAYLOAD_BYTES = 256 * 1024

HEALTH = '''"""Health check of billing: run by the agent after the switch; leaves with 0 when the service would work."""
import json, os, pathlib, sys

facts = json.loads((pathlib.Path(os.environ["AGENT_CI_ROOT"]) / "facts.json").read_text())
broken = json.loads(pathlib.Path("settings.json").read_text())["cannot_run_on"]
if facts.get("kind") in broken:
    sys.exit(f"ledger driver does not start on kind {facts['kind']}")
if os.environ["AGENT_VERSION"] != json.loads(pathlib.Path("software.json").read_text())["version"]:
    sys.exit("the wrong version runs")
print("healthy")
'''


def files_of(label: str) -> dict[str, bytes]:
    """What lies in the folder of a version."""
    broken = [BROKEN_KIND] if label == "2.0" else []
    software = {
        "product": PRODUCT,
        "version": label,
        "health": {"command": ["python3", "health.py"], "timeout_seconds": 20},
    }
    seed = hashlib.sha256(label.encode()).digest()
    return {
        "software.json": json.dumps(software, indent=1).encode(),
        "settings.json": json.dumps({"cannot_run_on": broken}).encode(),
        "health.py": HEALTH.encode(),
        "bin/billing": f"#!/bin/sh\necho billing {label}\n".encode(),
        "share/ledger.bin": b"".join(
            hashlib.sha256(seed + bytes([n % 256, n // 256])).digest() for n in range(PAYLOAD_BYTES // 32)
        ),
    }


def archive_of(label: str) -> bytes:
    """The version as a tar.gz; the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in sorted(files_of(label).items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def put_on_disk(root: Path, label: str) -> None:
    """Installs a version by hand, as it was before there was a portal."""
    folder = root / PRODUCT / "versions" / label
    for name, content in files_of(label).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    current = root / PRODUCT / "current"
    if not current.is_symlink():
        current.symlink_to(f"versions/{label}")


def version_on_disk(root: Path) -> str:
    """The version that runs in a CI's folder; empty: none."""
    current = root / PRODUCT / "current"
    return current.resolve().name if current.is_symlink() else ""
