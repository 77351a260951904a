"""The probes of a plan: what is asked while a wave soaks, and the verdict on the answers.

`{"url": …, "status": 200, "every": 30, "timeout": 5, "samples": 3, "failures": 2}` is an address that must answer as
expected; `{"check": "health", …}` asks CIs of the wave in turn to run the health check of their packages. A plan names
a check of a fixed list and no command: what is run came with the version. A probe is asked every so many seconds; of
its last `samples` answers, `failures` bad ones are a failure of the wave.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from releases.waves import policy_invalid
from tickets.exceptions import InvalidInput

MOST_PROBES = 10
# Name → default, least, most.
NUMBERS = {
    "status": (200, 100, 599),
    "every": (30, 5, 86400),
    "timeout": (5, 1, 10),
    "samples": (3, 1, 100),
    "failures": (2, 1, 100),
}
# What CIs can be asked to check, and how long they may take; agents ask every few minutes.
CHECKS = ("health",)
CHECK_NUMBERS = {
    "every": (30, 5, 86400),
    "timeout": (900, 10, 86400),
    "samples": (3, 1, 100),
    "failures": (2, 1, 100),
}


def probes_from_json(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Reads and checks the probes of a policy. Refuses with `InvalidInput`."""
    if not isinstance(value, list | tuple) or len(value) > MOST_PROBES:
        raise policy_invalid(_("probes is a list of at most %(most)d.") % {"most": MOST_PROBES})
    return tuple(_probe(probe, position) for position, probe in enumerate(value, start=1))


def _probe(value: Any, position: int) -> Mapping[str, Any]:
    probe: dict[str, Any]
    if isinstance(value, Mapping) and "check" in value:
        numbers = CHECK_NUMBERS
        if set(value) - {"check", *numbers} or value["check"] not in CHECKS:
            raise policy_invalid(
                _("Probe %(n)d: a check is one of %(checks)s; if need be, with %(names)s.")
                % {"n": position, "checks": ", ".join(CHECKS), "names": ", ".join(numbers)}
            )
        probe = {"check": value["check"]}
    else:
        numbers = NUMBERS
        if not isinstance(value, Mapping) or set(value) - {"url", *numbers} or not _is_url(value.get("url")):
            raise policy_invalid(
                _("Probe %(n)d: give its url (http or https) and, if need be, %(names)s.")
                % {"n": position, "names": ", ".join(numbers)}
            )
        probe = {"url": value["url"]}
    for name, (default, least, most) in numbers.items():
        number = value.get(name, default)
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            text = _("Probe %(n)d: %(name)s is a whole number from %(least)d to %(most)d.")
            raise policy_invalid(text % {"n": position, "name": name, "least": least, "most": most})
        probe[name] = number
    if probe["failures"] > probe["samples"]:
        raise policy_invalid(_("Probe %(n)d: it cannot fail more often than it is asked.") % {"n": position})
    return probe


def _is_url(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > 500 or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def verdict_of(outcomes: Sequence[str], probe: Mapping[str, Any]) -> str:
    """What the answers say, the oldest first: `fail`, `inconclusive`, `open` (too few yet) or `pass`."""
    last = list(outcomes)[-probe["samples"] :]
    for outcome in ("fail", "inconclusive"):
        if last.count(outcome) >= probe["failures"]:
            return outcome
    return "pass" if len(last) == probe["samples"] else "open"


def is_allowed(url: str) -> bool:
    """Whether the portal may call it: its host, or host and port, stands in `PROBE_HOSTS`.

    Nothing but host and port stands between the slashes, so that whoever calls it reads the same host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return False
    host = (parts.hostname or "").lower()
    is_plain = parts.netloc.lower().removesuffix(f":{port}") in {host, f"[{host}]"}
    return bool(host) and is_plain and bool({host, f"{host}:{port}"} & set(settings.PROBE_HOSTS))


def check_hosts(probes: Iterable[Mapping[str, Any]]) -> None:
    """Refuses a probe of a host that the portal may not call."""
    for position, probe in enumerate(probes, start=1):
        if "url" in probe and not is_allowed(probe["url"]):
            text = _("Probe %(n)d: the portal may not call this address. An administrator allows hosts in PROBE_HOSTS.")
            raise InvalidInput(text % {"n": position}, field="policy", code="probe_not_allowed")


def probe_lines(probes: Iterable[Mapping[str, Any]]) -> str:
    """One probe on each line, as the form of a plan shows them: address and status, or the check."""
    return "\n".join(f"{probe['url']} {probe['status']}" if "url" in probe else probe["check"] for probe in probes)


def name_of(probe: Mapping[str, Any]) -> str:
    """What people call it: its address, or its check."""
    return str(probe.get("url") or probe["check"])


def read_probe_lines(text: str, stored: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The probes of such lines; the numbers that they do not show stay as they are stored for the same one."""
    known = {name_of(probe): dict(probe) for probe in stored}
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line in CHECKS:
            found.append(known.get(line, {"check": line}))
            continue
        url, _space, status = line.partition(" ")
        probe = {**known.get(url, {}), "url": url}
        if status.strip():
            probe["status"] = int(status) if status.strip().isdecimal() else status
        found.append(probe)
    return found
