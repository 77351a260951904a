"""Scripts in the agent's place, and how to find what was started for copies."""

from pathlib import Path

from test_environments.drivers.file_copy.agents import MARK

SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"


def processes_of(folder: Path) -> list[int]:
    """Living processes that were started for environments below a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={folder}/".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
