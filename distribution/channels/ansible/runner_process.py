"""One play in a process of its own: `runner_process.py <private data dir> <playbook>`; events as JSON lines on stdout.

Its environment is that of the play, so the worker starts it with a clean one: no password of the database comes near
Ansible. When the worker dies, standard input ends: then everything of the run is killed and its folder removed.
Imports nothing of the portal; Ansible itself (GPL) runs as a program of its own behind it.
"""

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import ansible_runner

sys.path.insert(0, str(Path(__file__).resolve().parent))
from processes import MARK, end_processes

_TEXT = 2000
_OF_A_HOST = ("runner_on_start", "runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")


def _told(event: dict[str, Any]) -> bool:
    """Writes what the portal needs of an event; False: nothing is kept on disk."""
    kind, data = event.get("event"), event.get("event_data") or {}
    if kind in _OF_A_HOST:
        result = data.get("res") or {}
        line = {"event": kind.removeprefix("runner_on_"), "host": data.get("host"), "task": data.get("task")}
        line["text"] = str(result.get("msg") or result.get("exception") or "")[:_TEXT]
        line["code"] = str(result.get("code") or "")[:64]
        if isinstance(result.get("running"), dict):
            line |= {"running": result["running"], "health": str(result.get("health") or "")[:_TEXT]}
        _write(line)
    elif kind in {"error", "warning"} or (kind == "verbose" and "ERROR" in str(event.get("stdout"))):
        _write({"event": "output", "text": str(event.get("stdout") or "")[:_TEXT]})
    return False


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _die_with_worker(folder: str) -> None:
    while os.read(0, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    end_processes(os.environ[MARK])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main(folder: str, playbook: str) -> int:
    threading.Thread(target=_die_with_worker, args=(folder,), daemon=True).start()
    run = ansible_runner.run(
        private_data_dir=folder,
        project_dir=str(Path(playbook).parent),
        playbook=Path(playbook).name,
        inventory=str(Path(folder) / "inventory.yml"),
        forks=int(os.environ["ITSM_PUSH_FORKS"]),
        event_handler=_told,
        settings={"suppress_output_file": True, "pexpect_timeout": 1},
        suppress_env_files=True,
        quiet=True,
    )
    _write({"event": "ended", "text": str(run.status), "code": str(run.rc)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
