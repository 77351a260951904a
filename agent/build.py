"""Builds the agent as one file: ``python -m agent.build OUT.pyz``. The same sources give the same bytes."""

import sys
import zipfile
from pathlib import Path

_MAIN = """import sys

from agent.cli import main

sys.exit(main())
"""


def build(target: Path) -> None:
    """Writes the executable archive. Raises OSError."""
    folder = Path(__file__).parent
    paths = [path for path in folder.glob("*.py") if path.name != "build.py"]
    sources = {f"agent/{path.name}": path.read_bytes() for path in paths}
    sources["__main__.py"] = _MAIN.encode()
    with open(target, "wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        # Stored, not compressed: the bytes do not depend on the zlib at hand.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(sources):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix, on whatever system it is built
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, sources[name])
    target.chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m agent.build OUT.pyz")
    build(Path(sys.argv[1]))
