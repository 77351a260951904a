"""Which hypervisor a URI names, and what is refused about it before anything is opened.

    qemu:///embed                                   a libvirt of our own, closed off from every network
    qemu:///session, qemu:///system                 a daemon on this host; `?socket=` names its socket
    qemu+ssh://user@host:port/system (or session)   a daemon on another host that sees the same folder

Only what is read here is passed on: a parameter that would weaken the check of the other host's key is refused.
"""

import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from test_environments.drivers.errors import Unsupported
from test_environments.drivers.texts import Text as _

EMBED = "qemu:///embed"
_KNOWN = "qemu:///embed, qemu:///session, qemu:///system, or qemu+ssh://user@host/system"
_WEAKENING = frozenset({"no_verify", "command", "netcat", "sshauth", "known_hosts_verify"})
_PARAMETERS = {
    "embed": frozenset[str](),
    "local": frozenset({"socket"}),
    "ssh": frozenset({"keyfile", "known_hosts"}),
}


class Owner(StrEnum):
    """Whose the hypervisor is."""

    OURS = "ours"
    DAEMON = "daemon"  # of this host
    REMOTE = "remote"  # of another host, by SSH


@dataclass(frozen=True, slots=True)
class HypervisorUri:
    """A URI that was read. `host` and `parameters` are empty where it has none."""

    owner: Owner
    instance: str  # embed, session, system
    host: str = ""  # user@host:port
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def is_embedded(self) -> bool:
        return self.owner is Owner.OURS

    def why_not_closed(self) -> str:
        """Why its machines cannot have a closed network, and what to do; empty if they can."""
        if self.is_embedded:
            return ""
        return _(
            "Machines of %(uri)s get no network: it is not ours to close off. Set "
            "TEST_ENVIRONMENT_LIBVIRT_URI to %(embed)s for copies that reach the portal, or ask for a "
            "copy without a network.",
            uri=self,
            embed=EMBED,
        )

    @property
    def identity(self) -> str:
        """Which hypervisor it is: another socket is another one, another key leads to the same."""
        return self._text({name: value for name, value in self.parameters if name == "socket"})

    def check_made_under(self, made: str) -> None:
        """`made`: an identity. Raises Unsupported for an environment of another hypervisor: its machine is there."""
        if made != self.identity:
            raise Unsupported(
                _(
                    "It was made under %(made)s, and TEST_ENVIRONMENT_LIBVIRT_URI is %(identity)s now. Set it "
                    "back to %(made)s, or destroy the environment while the old one is set, and make it again.",
                    made=made,
                    identity=self.identity,
                )
            )

    def to_open(self, folder: Path) -> str:
        """What libvirt is given; `folder` is the hypervisor's own. Writes the command for SSH there. Raises OSError."""
        if self.is_embedded:
            return f"{EMBED}?root={folder}"
        given = dict(self.parameters)
        if self.owner is Owner.REMOTE:
            known_hosts = given.pop("known_hosts", "")
            given |= {"command": str(_write_ssh(folder, known_hosts, given.get("keyfile", ""))), "no_tty": "1"}
        return self._text(given)

    def __str__(self) -> str:
        return self._text({})

    def _text(self, parameters: dict[str, str]) -> str:
        scheme = "qemu+ssh" if self.owner is Owner.REMOTE else "qemu"
        query = f"?{urlencode(parameters, quote_via=quote, safe='/')}" if parameters else ""
        return f"{scheme}://{self.host}/{self.instance}{query}"


def read_uri(text: str) -> HypervisorUri:
    """Raises Unsupported for what this driver cannot use, with what to write instead."""
    parts = urlsplit(text)
    instance = parts.path.lstrip("/")
    given = parse_qsl(parts.query, keep_blank_values=True)
    if parts.scheme == "qemu" and not parts.netloc and instance in {"embed", "session", "system"}:
        found = HypervisorUri(Owner.OURS if instance == "embed" else Owner.DAEMON, instance, "", tuple(given))
        kind = "embed" if found.is_embedded else "local"
    elif parts.scheme == "qemu+ssh" and parts.hostname and instance in {"session", "system"} and not parts.password:
        found, kind = HypervisorUri(Owner.REMOTE, instance, parts.netloc, tuple(given)), "ssh"
    else:
        raise Unsupported(_("The driver libvirt cannot use %(text)s. It knows %(known)s.", text=text, known=_KNOWN))
    for name, value in given:
        if name in _WEAKENING:
            raise Unsupported(
                _(
                    "%(text)s says %(name)s, which is refused: the other host is known by its key, and nothing "
                    "else is run. Name its key in known_hosts=/path/to/file.",
                    text=text,
                    name=name,
                )
            )
        if name not in _PARAMETERS[kind]:
            known = ", ".join(sorted(_PARAMETERS[kind])) or "none; its folder is TEST_ENVIRONMENT_MACHINES"
            raise Unsupported(
                _(
                    "%(text)s says %(name)s, which the driver libvirt does not know there. It knows %(known)s.",
                    text=text,
                    name=name,
                    known=known,
                )
            )
        if not Path(value).is_absolute() or len(value.split()) != 1:
            raise Unsupported(_("%(text)s: %(name)s needs an absolute path without blanks.", text=text, name=name))
    return found


def _write_ssh(folder: Path, known_hosts: str, keyfile: str) -> Path:
    """A command that is SSH with the other host's key checked and nothing forwarded, whatever is set elsewhere."""
    options = {
        "StrictHostKeyChecking": "yes", "BatchMode": "yes", "PasswordAuthentication": "no", "ForwardAgent": "no",
        "ForwardX11": "no", "ClearAllForwardings": "yes", "PermitLocalCommand": "no", "ControlPath": "none",
        "ConnectTimeout": "10", "ServerAliveInterval": "10", "ServerAliveCountMax": "2",
    }  # fmt: skip
    if known_hosts:
        options |= {"UserKnownHostsFile": known_hosts, "GlobalKnownHostsFile": "none"}
    if keyfile:
        options |= {"IdentitiesOnly": "yes", "IdentityAgent": "none"}
    words = ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in options.items())]
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    command = folder / "ssh"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    command.chmod(0o700)
    return command
