"""The agent's configuration file: reading and checking."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from agent.command import HOOKS, Command, read_hooks

SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_CONTROLLER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,255}")
_VERIFY_WITH = re.compile(r"auto|cryptography|openssl")
_KEY = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,256}")


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line for the person who wrote it."""


class Config(NamedTuple):
    """A checked configuration. Times are in seconds, sizes in bytes."""

    url: str
    tenant: str
    controller_id: str
    token_file: Path
    root: Path
    poll_min_seconds: float = 1.0
    http_timeout: float = 30.0
    download_give_up_seconds: float = 3600.0
    max_unpacked_bytes: int = 4 * 1024**3
    max_unpack_ratio: int = 200
    max_members: int = 100_000
    root_keys: tuple[str, ...] = ()
    root_threshold: int = 1
    verify_with: str = "auto"
    hooks: dict[str, Command] = {}

    @property
    def agent_folder(self) -> Path:
        """Where the agent keeps its own files."""
        return self.root / ".agent"


def is_segment(text: object) -> bool:
    """Whether ``text`` may be used as one folder name: product slugs and version labels come from outside."""
    return isinstance(text, str) and SEGMENT.fullmatch(text) is not None


def read_token(path: Path) -> str:
    """The target token in ``path``. Raises ConfigError; the token itself is never part of the message."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token_file {path}: {_reason(error)}") from None
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"token_file {path}: must hold one token of 1 to 256 printable ASCII characters")
    return token


def load_config(path: Path) -> Config:
    """Reads and checks ``path``. Relative paths in it are relative to its folder. Raises ConfigError."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {_reason(error)}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a JSON object")
    unknown = sorted(set(raw) - set(Config._fields))
    if unknown:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}")
    base = path.resolve().parent
    config = Config(
        url=_url(raw),
        tenant=_match(raw, "tenant", SEGMENT, "DEFAULT"),
        controller_id=_match(raw, "controller_id", _CONTROLLER, None),
        token_file=base / _text(raw, "token_file"),
        root=base / _text(raw, "root"),
        poll_min_seconds=_number(raw, "poll_min_seconds", 1.0, 0.05, 86_400),
        http_timeout=_number(raw, "http_timeout", 30.0, 0.1, 3_600),
        download_give_up_seconds=_number(raw, "download_give_up_seconds", 3600.0, 0.1, 604_800),
        max_unpacked_bytes=int(_number(raw, "max_unpacked_bytes", 4 * 1024**3, 1, 2**60)),
        max_unpack_ratio=int(_number(raw, "max_unpack_ratio", 200, 1, 1_000_000)),
        max_members=int(_number(raw, "max_members", 100_000, 1, 10_000_000)),
        root_keys=_keys(raw, "root_keys"),
        root_threshold=int(_number(raw, "root_threshold", 1, 1, max(1, len(_keys(raw, "root_keys"))))),
        verify_with=_match(raw, "verify_with", _VERIFY_WITH, "auto"),
        hooks=_hooks(raw),
    )
    read_token(config.token_file)
    return config


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}: must be a non-empty text")
    return value


def _match(raw: dict[str, Any], key: str, pattern: re.Pattern[str], default: str | None) -> str:
    value = raw.get(key, default)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ConfigError(f"{key}: must match {pattern.pattern}")
    return value


def _number(raw: dict[str, Any], key: str, default: float, low: float, high: float) -> float:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{key}: must be a number from {low} to {high}")
    return value


def _keys(raw: dict[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(k, str) and _KEY.fullmatch(k) for k in value):
        raise ConfigError(f"{key}: must be a list of public keys, each of 64 small hexadecimal digits")
    if key in raw and not value:
        # An empty list would turn the signatures off and look as if they were on.
        raise ConfigError(f"{key}: leave it out, or name at least one key")
    return tuple(dict.fromkeys(value))


def _hooks(raw: dict[str, Any]) -> dict[str, Command]:
    value = raw.get("hooks", {})
    if not isinstance(value, dict) or set(value) - set(HOOKS):
        raise ConfigError(f"hooks: may hold {', '.join(HOOKS)}")
    try:
        return read_hooks(value)
    except ValueError as error:
        raise ConfigError(f"hooks.{error}") from None


def _url(raw: dict[str, Any]) -> str:
    url = _text(raw, "url").rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username or not url.isascii() or " " in url:
        raise ConfigError("url: must be like https://host[:port][/path], without user, query or fragment")
    return url


def _reason(error: Exception) -> str:
    return error.strerror or "cannot be read" if isinstance(error, OSError) else "is not UTF-8 text"
