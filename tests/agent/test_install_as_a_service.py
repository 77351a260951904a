"""The systemd unit, and taking the agent off a machine."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.build import build
from tests.agent.ci import Ci, software
from tests.agent.ddi_server import DdiServer


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    build(tmp_path / "agent.pyz")
    return tmp_path / "agent.pyz"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder for units, and a systemctl that writes down what it is asked: this machine keeps its own."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "systemctl"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    script.chmod(0o755)
    (tmp_path / "units").mkdir()
    return tmp_path / "units"


def run(agent: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    path = f"{agent.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, str(agent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, "PATH": path})


def test_unit_runs_this_agent_with_this_configuration(ci: Ci, agent: Path) -> None:
    result = run(agent, "install-service", "--print", "--user", "updates", "--config", str(ci.config_file))

    assert result.returncode == 0, result.stderr
    unit = configparser.ConfigParser(interpolation=None, strict=False, comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(result.stdout)
    service = unit["Service"]
    assert service["ExecStart"] == f'"{sys.executable}" -I "{agent}" run --config "{ci.config_file}"'
    assert (service["User"], service["ReadWritePaths"]) == ("updates", f'"{ci.root}"')
    assert (service["Restart"], service["KillMode"]) == ("always", "mixed")
    hardening = ("NoNewPrivileges", "PrivateTmp", "ProtectKernelModules", "RestrictSUIDSGID", "LockPersonality")
    assert all(service[name] == "yes" for name in hardening)
    assert service["ProtectSystem"] == "strict"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="asks systemd-analyze")
def test_unit_is_what_systemd_expects(ci: Ci, agent: Path, tmp_path: Path) -> None:
    unit = tmp_path / "update-agent.service"
    unit.write_text(run(agent, "install-service", "--print", "--config", str(ci.config_file)).stdout)

    result = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=30)

    assert (result.returncode, result.stderr) == (0, "")


def test_service_is_written_enabled_and_removed(ci: Ci, server: DdiServer, agent: Path, units: Path) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()
    where = ("--unit-folder", str(units), "--config", str(ci.config_file))
    assert run(agent, "install-service", *where).returncode == 0
    assert (units / "update-agent.service").is_file()

    result = run(agent, "uninstall", *where)

    assert result.returncode == 0, result.stderr
    calls = (agent.parent / "calls").read_text().splitlines()
    unit = "update-agent.service"
    assert calls == ["daemon-reload", f"enable --now {unit}", f"disable --now {unit}", "daemon-reload"]
    assert list(units.iterdir()) == []
    assert not (ci.root / ".agent").exists()
    assert ci.running() == "1.0", "the software stays"
    assert f"left {ci.root / 'app'}" in result.stdout


def test_uninstall_removes_the_software_by_choice_and_nothing_else(
    ci: Ci, server: DdiServer, agent: Path, units: Path
) -> None:
    for product in ("app", "lib"):
        server.offer(server.chunk(product, "1.0", software(product, "1.0")))
        ci.cycle()
    (ci.root / "lib" / "notes.txt").write_text("mine")
    (ci.root / "data").mkdir()
    (ci.root / "data" / "current").write_text("a file of somebody else")

    result = run(agent, "uninstall", "--remove-software", "--unit-folder", str(units), "--config", str(ci.config_file))

    assert result.returncode == 0, result.stderr
    left = sorted(str(path.relative_to(ci.root)) for path in ci.root.rglob("*"))
    assert left == ["data", "data/current", "lib", "lib/notes.txt"]


def test_uninstall_waits_for_no_running_agent(ci: Ci, server: DdiServer, agent: Path, units: Path) -> None:
    running = ci.start()
    server.wait(lambda: server.attributes is not None, 30)

    result = run(agent, "uninstall", "--unit-folder", str(units), "--config", str(ci.config_file))

    running.terminate()
    running.communicate(timeout=30)
    assert result.returncode == 3
    assert "stop it first" in result.stderr
    assert (ci.root / ".agent" / "status.json").exists()


def test_service_needs_the_one_file_agent(ci: Ci, capsys: pytest.CaptureFixture[str]) -> None:
    from agent.cli import main

    assert main(["install-service", "--print", "--config", str(ci.config_file)]) == 2
    assert "run it from the one-file agent" in capsys.readouterr().err
