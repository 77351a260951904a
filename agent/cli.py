"""The command line: ``run`` and ``status``.

Exit codes: 0 done or stopped by a signal, 1 ``run --once`` could not reach the server or deliver everything,
2 wrong arguments or configuration, 3 another agent runs for the same folder, 4 the agent's files cannot be
used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agent.config import Config, ConfigError, load_config
from agent.version import VERSION


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="agent", formatter_class=_formatter, description="Update agent for one server or desktop."
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True, prog="agent")
    run = commands.add_parser("run", formatter_class=_formatter, help="poll the server and install what it offers")
    run.add_argument("--once", action="store_true", help="one poll with all that follows from it, then end")
    status = commands.add_parser("status", formatter_class=_formatter, help="print what this CI runs, as JSON")
    for command in (run, status):
        command.add_argument("--config", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
    except ConfigError as error:
        print(f"agent: {error}", file=sys.stderr)
        return 2
    return _status(config) if options.command == "status" else _run(config, once=options.once)


def _formatter(prog: str) -> argparse.HelpFormatter:
    # Without a width and a prog, argparse loads shutil and all its compressors for every agent.
    return argparse.HelpFormatter(prog, width=100)


def _run(config: Config, *, once: bool) -> int:
    if config.url.startswith("http:"):
        _load_http_without_ssl()

    from agent.errors import Stopped
    from agent.log import log
    from agent.runner import AlreadyRunning, run_agent
    from agent.state import StateError

    log(f"agent {VERSION} for {config.controller_id} at {config.url}")
    try:
        return 0 if run_agent(config, once=once) else 1
    except Stopped:
        log("stopped")
        return 0
    except AlreadyRunning as error:
        print(f"agent: {error}", file=sys.stderr)
        return 3
    except ConfigError as error:
        print(f"agent: {error}", file=sys.stderr)
        return 2
    except (StateError, OSError) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 4


def _load_http_without_ssl() -> None:
    """Saves an agent without https the memory of ``ssl``, which ``http.client`` loads in any case.

    A later redirection to https still works: the client then imports ``ssl`` itself.
    """
    if "http.client" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import http.client  # noqa: F401
    finally:
        del sys.modules["ssl"]


def _status(config: Config) -> int:
    import json

    from agent.runner import is_running
    from agent.store import Store

    try:
        status = json.loads((config.agent_folder / "status.json").read_bytes())
    except (OSError, ValueError):
        status = {"agent_version": VERSION, "controller_id": config.controller_id}
    try:
        status["running"] = is_running(config.agent_folder)
        status["connected"] = status["running"] and status.get("connected", False)
        status["versions"] = Store(config.root).running() if config.root.is_dir() else {}
    except OSError as error:
        print(f"agent: {error}", file=sys.stderr)
        return 4
    print(json.dumps(status, indent=2, sort_keys=True))
    return 0
