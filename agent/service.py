"""The agent as a systemd service, and its removal from the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.config import Config, ConfigError

# %-signs are systemd's own; in a path they are doubled.
_UNIT = """\
[Unit]
Description=Update agent for {controller}
Documentation=file:{archive}
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart="{python}" -I "{archive}" run --config "{config}"
{user}Restart=always
RestartSec=5
# SIGTERM goes to the agent alone; a hook that still runs after it ends with the service.
KillMode=mixed
TimeoutStopSec=60
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ReadWritePaths="{root}"
ProtectHome=read-only
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def unit_text(config: Config, config_file: Path, user: str) -> str:
    """The unit of the agent that runs now. Raises ConfigError when it is not the one-file archive."""
    archive = Path(sys.argv[0]).resolve()
    if archive.suffix != ".pyz":
        raise ConfigError("install-service: run it from the one-file agent (python -m agent.build agent.pyz)")
    return _UNIT.format(
        controller=config.controller_id,
        python=_quoted(sys.executable),
        archive=_quoted(str(archive)),
        config=_quoted(str(config_file.resolve())),
        root=_quoted(str(config.root.resolve())),
        user=f"User={user}\n" if user else "",
    )


def install_service(config: Config, config_file: Path, name: str, folder: Path, user: str) -> Path:
    """Writes the unit, enables and starts it. Raises ConfigError, OSError."""
    unit = folder / f"{name}.service"
    text = unit_text(config, config_file, user)
    # The unit may write to this folder only, so it must be there when the service starts.
    config.root.mkdir(parents=True, exist_ok=True)
    unit.write_text(text, "utf-8")
    unit.chmod(0o644)
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", unit.name)
    return unit


def remove_service(name: str, folder: Path) -> bool:
    """Stops the service and deletes its unit; False when there is none. Raises ConfigError, OSError."""
    unit = folder / f"{name}.service"
    if not unit.exists():
        return False
    _systemctl("disable", "--now", unit.name)
    unit.unlink()
    _systemctl("daemon-reload")
    return True


def _systemctl(*arguments: str) -> None:
    try:
        result = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise ConfigError("systemctl is not there: this machine is not run by systemd") from None
    if result.returncode != 0:
        raise ConfigError(f"systemctl {' '.join(arguments)}: {result.stderr.strip() or result.returncode}")


def _quoted(path: str) -> str:
    if "\n" in path or '"' in path or "\\" in path:
        raise ConfigError(f"install-service: {path!r} cannot stand in a unit")
    return path.replace("%", "%%").replace("$", "$$")
