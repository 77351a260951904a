"""The command line: ``run``, ``status``, ``install-service`` and ``uninstall``.

Exit codes: 0 done or stopped by a signal, 1 ``run --once`` could not reach the server or deliver everything,
2 wrong arguments or configuration, or no service manager, 3 another agent runs for the same folder, 4 the
agent's files cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agent.config import Config, ConfigError, is_segment, load_config
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
    service = commands.add_parser(
        "install-service", formatter_class=_formatter, help="write the systemd unit, enable and start it"
    )
    service.add_argument("--user", default="", help="run as this user (default: root)")
    service.add_argument("--print", action="store_true", help="only print the unit")
    uninstall = commands.add_parser(
        "uninstall", formatter_class=_formatter, help="stop the service and remove the agent's own files"
    )
    uninstall.add_argument("--remove-software", action="store_true", help="remove what it installed, too")
    for command in (service, uninstall):
        command.add_argument("--name", default="update-agent", type=_unit_name, help="of the service")
        command.add_argument("--unit-folder", type=Path, default=Path("/etc/systemd/system"), metavar="FOLDER")
    for command in (run, status, service, uninstall):
        command.add_argument("--config", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    actions = {"run": _run, "status": _status, "install-service": _install_service, "uninstall": _uninstall}
    try:
        return actions[options.command](load_config(options.config), options)
    except ConfigError as error:
        print(f"agent: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"agent: {error}", file=sys.stderr)
        return 4


def _formatter(prog: str) -> argparse.HelpFormatter:
    # Without a width and a prog, argparse loads shutil and all its compressors for every agent.
    return argparse.HelpFormatter(prog, width=100)


def _run(config: Config, options: argparse.Namespace) -> int:
    if config.url.startswith("http:"):
        _load_http_without_ssl()

    from agent.errors import Stopped
    from agent.log import log
    from agent.runner import AlreadyRunning, run_agent
    from agent.state import StateError

    log(f"agent {VERSION} for {config.controller_id} at {config.url}")
    try:
        return 0 if run_agent(config, once=options.once) else 1
    except Stopped:
        log("stopped")
        return 0
    except AlreadyRunning as error:
        print(f"agent: {error}", file=sys.stderr)
        return 3
    except StateError as error:
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


def _status(config: Config, options: argparse.Namespace) -> int:
    import json

    from agent.runner import is_running
    from agent.store import Store

    try:
        status = json.loads((config.agent_folder / "status.json").read_bytes())
    except (OSError, ValueError):
        status = {"agent_version": VERSION, "controller_id": config.controller_id}
    status["running"] = is_running(config.agent_folder)
    status["connected"] = status["running"] and status.get("connected", False)
    status["versions"] = Store(config.root).running() if config.root.is_dir() else {}
    print(json.dumps(status, indent=2, sort_keys=True))
    return 0


def _install_service(config: Config, options: argparse.Namespace) -> int:
    from agent.service import install_service, unit_text

    if options.print:
        print(unit_text(config, options.config, options.user), end="")
        return 0
    unit = install_service(config, options.config, options.name, options.unit_folder, options.user)
    print(f"wrote {unit}; the service is enabled and runs")
    return 0


def _uninstall(config: Config, options: argparse.Namespace) -> int:
    from agent.runner import AlreadyRunning
    from agent.service import remove_service
    from agent.uninstall import uninstall

    if remove_service(options.name, options.unit_folder):
        print(f"stopped and removed the service {options.name}")
    try:
        print("\n".join(uninstall(config, remove_software=options.remove_software)))
    except AlreadyRunning as error:
        print(f"agent: {error}; stop it first", file=sys.stderr)
        return 3
    print(f"left {options.config} and the files it names")
    return 0


def _unit_name(text: str) -> str:
    if not is_segment(text):
        raise argparse.ArgumentTypeError("only letters, digits and ._+-")
    return text
