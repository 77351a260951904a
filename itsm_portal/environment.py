"""Reads the environment once, and refuses what is wrong with a message that says what to do."""

import base64
import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

PROFILES = ("production", "development", "demo", "test")
DATABASE_SCHEMES = {"postgres", "postgresql"}
REDIS_SCHEMES = {"redis", "rediss", "unix"}


def profile() -> str:
    """The profile: what may be left out and what must be named. Production unless stated otherwise."""
    value = os.environ.get("PORTAL_PROFILE", "production")
    if value not in PROFILES:
        raise ImproperlyConfigured(f"PORTAL_PROFILE is {value!r}; it must be one of {', '.join(PROFILES)}.")
    return value


def required(name: str, *, hint: str) -> str:
    """The value of a variable that production cannot do without."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. {hint}")
    return value


def unset(name: str, *, hint: str) -> None:
    """Refuses a variable that has no business here."""
    if os.environ.get(name):
        raise ImproperlyConfigured(f"{name} must not be set in this profile. {hint}")


def url(name: str, *, schemes: set[str], hint: str) -> str:
    """A server's address, checked for its scheme so that a typing error is told at start and not at first use."""
    value = required(name, hint=hint)
    parts = urlsplit(value)
    if parts.scheme not in schemes:
        raise ImproperlyConfigured(
            f"{name} begins with {parts.scheme or 'nothing'!r}; it must begin with one of "
            f"{', '.join(sorted(schemes))}. {hint}"
        )
    try:
        port = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} has a port that is not a number. {hint}") from error
    if port == 0:
        raise ImproperlyConfigured(f"{name} names port 0. {hint}")
    return value


def secret_key() -> str:
    """Django's signing key: at least 50 characters in production."""
    value = required("SECRET_KEY", hint="Generate one: python -c 'import secrets; print(secrets.token_urlsafe(50))'")
    if len(value) < 50:
        raise ImproperlyConfigured(
            f"SECRET_KEY has {len(value)} characters; it needs at least 50. "
            "Generate one: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    return value


def download_key(address: str) -> str:
    """The key of signed download links: at least 32 characters, and there when links shall point to `address`."""
    value = os.environ.get("DOWNLOAD_KEY", "").strip()
    hint = "Generate one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    if address and not value:
        raise ImproperlyConfigured(f"DOWNLOAD_URL is set but DOWNLOAD_KEY is not. {hint}")
    if value and len(value) < 32:
        raise ImproperlyConfigured(f"DOWNLOAD_KEY has {len(value)} characters; it needs at least 32. {hint}")
    return value


def token(name: str) -> str:
    """A secret that a program sends: at least 32 characters, or nothing."""
    value = os.environ.get(name, "").strip()
    if value and len(value) < 32:
        raise ImproperlyConfigured(
            f"{name} has {len(value)} characters; it needs at least 32. "
            "Generate one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return value


def location(name: str) -> str:
    """A path of the proxy that begins and ends with a slash, or nothing."""
    value = os.environ.get(name, "").strip()
    if value and (len(value) < 3 or not value.startswith("/") or not value.endswith("/")):
        raise ImproperlyConfigured(f"{name} is {value!r}; it must begin and end with a slash, such as /artifacts/.")
    return value


def flag(name: str, *, default: bool) -> bool:
    """A yes/no variable; anything but the usual words is refused."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; write 1 or 0.")


def number(name: str, *, default: int, least: int) -> int:
    """A whole number with a lower bound."""
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    try:
        parsed = int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a whole number.") from error
    if parsed < least:
        raise ImproperlyConfigured(f"{name} is {parsed}; it must be at least {least}.")
    return parsed


def words(name: str, *, default: str = "") -> list[str]:
    """A list of words, separated by commas."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def choices(name: str, *, allowed: tuple[str, ...], default: str) -> list[str]:
    """A list of known words."""
    found = words(name, default=default)
    if unknown := sorted(set(found) - set(allowed)):
        raise ImproperlyConfigured(f"{name} names {', '.join(unknown)}; possible are {', '.join(allowed)}.")
    return found


def networks(name: str) -> list[str]:
    """A list of addresses and networks, or `unix` for a socket."""
    found = words(name)
    for word in found:
        try:
            if word != "unix":
                ipaddress.ip_network(word)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {word!r} is neither an address nor a network ({error}).") from error
    return found


def ports(name: str) -> tuple[str, int, int] | None:
    """An address of this machine with a port or several, `192.0.2.10:8443-8450`; None when it is not set."""
    value = os.environ.get(name, "").strip()
    if not value:
        return None
    found = re.fullmatch(r"([0-9.]+):([0-9]{1,5})(?:-([0-9]{1,5}))?", value)
    try:
        if found is None:
            raise ValueError
        address, first, last = str(ipaddress.IPv4Address(found[1])), int(found[2]), int(found[3] or found[2])
        if not 0 < first <= last < 65536:
            raise ValueError
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} is {value!r}; it must be an IPv4 address with a port or a range: 192.0.2.10:8443-8450."
        ) from None
    return address, first, last


def folder(name: str, *, default: Path) -> Path:
    """A folder's path, absolute."""
    return Path(os.environ.get(name) or default).resolve()


def fernet_keys(name: str, *, default: str = "") -> list[str]:
    """Keys for encryption at rest: each 32 bytes in URL-safe base64, separated by commas."""
    keys = words(name, default=default)
    for key in keys:
        try:
            is_key = len(base64.urlsafe_b64decode(key)) == 32
        except ValueError:
            is_key = False
        if not is_key:
            raise ImproperlyConfigured(
                f"{name} holds something that is no key. Generate one: "
                'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
            )
    return keys
