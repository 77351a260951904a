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
_SCHEME = re.compile(r"TargetToken|GatewayToken")
_TLS_VERSION = re.compile(r"1\.[23]")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_SECRET = re.compile(r"[\x21-\x7e]{1,256}")


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line for the person who wrote it."""


class Config(NamedTuple):
    """A checked configuration. Times are in seconds, sizes in bytes."""

    url: str
    tenant: str
    controller_id: str
    token_file: Path | None
    root: Path
    token_scheme: str = "TargetToken"  # noqa: S105 - a word of the protocol
    poll_min_seconds: float = 1.0
    http_timeout: float = 30.0
    download_give_up_seconds: float = 3600.0
    download_min_rate: float = 100.0
    disk_reserve_bytes: int = 64 * 1024**2
    max_unpacked_bytes: int = 4 * 1024**3
    max_unpack_ratio: int = 200
    max_members: int = 100_000
    root_keys: tuple[str, ...] = ()
    root_threshold: int = 1
    verify_with: str = "auto"
    hooks: dict[str, Command] = {}
    proxy: str = ""
    proxy_login_file: Path | None = None
    no_proxy: tuple[str, ...] = ()
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    tls_min_version: str = "1.2"

    @property
    def agent_folder(self) -> Path:
        """Where the agent keeps its own files."""
        return self.root / ".agent"


def is_segment(text: object) -> bool:
    """Whether ``text`` may be used as one folder name: product slugs and version labels come from outside."""
    return isinstance(text, str) and SEGMENT.fullmatch(text) is not None


def read_secret(key: str, path: Path) -> str:
    """The one line in ``path``, named by ``key``. Raises ConfigError; the secret is never part of the message."""
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} {path}: {_reason(error)}") from None
    if not _SECRET.fullmatch(secret):
        raise ConfigError(f"{key} {path}: must hold one line of 1 to 256 printable ASCII characters without spaces")
    return secret


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
    root_keys = _texts(raw, "root_keys", _KEY, "public keys, each of 64 small hexadecimal digits")
    config = Config(
        url=_url(raw, "url", ("http", "https")),
        tenant=_match(raw, "tenant", SEGMENT, "DEFAULT"),
        controller_id=_match(raw, "controller_id", _CONTROLLER, None),
        token_file=_path(raw, "token_file", base),
        root=base / _text(raw, "root"),
        token_scheme=_match(raw, "token_scheme", _SCHEME, "TargetToken"),
        poll_min_seconds=_number(raw, "poll_min_seconds", 1.0, 0.05, 86_400),
        http_timeout=_number(raw, "http_timeout", 30.0, 0.1, 3_600),
        download_give_up_seconds=_number(raw, "download_give_up_seconds", 3600.0, 0.1, 604_800),
        download_min_rate=_number(raw, "download_min_rate", 100.0, 0, 10**9),
        disk_reserve_bytes=int(_number(raw, "disk_reserve_bytes", 64 * 1024**2, 0, 2**60)),
        max_unpacked_bytes=int(_number(raw, "max_unpacked_bytes", 4 * 1024**3, 1, 2**60)),
        max_unpack_ratio=int(_number(raw, "max_unpack_ratio", 200, 1, 1_000_000)),
        max_members=int(_number(raw, "max_members", 100_000, 1, 10_000_000)),
        root_keys=root_keys,
        root_threshold=int(_number(raw, "root_threshold", 1, 1, max(1, len(root_keys)))),
        verify_with=_match(raw, "verify_with", _VERIFY_WITH, "auto"),
        hooks=_hooks(raw),
        proxy=_url(raw, "proxy", ("http",)) if "proxy" in raw else "",
        proxy_login_file=_path(raw, "proxy_login_file", base),
        no_proxy=_texts(raw, "no_proxy", _HOST, "host names"),
        ca_file=_path(raw, "ca_file", base),
        client_certificate=_path(raw, "client_certificate", base),
        client_key=_path(raw, "client_key", base),
        tls_min_version=_match(raw, "tls_min_version", _TLS_VERSION, "1.2"),
    )
    _check_together(config, raw)
    return config


def _check_together(config: Config, raw: dict[str, Any]) -> None:
    """Refuses settings that would have no effect: somebody relies on them."""
    for key in ("ca_file", "client_certificate", "client_key", "tls_min_version"):
        if key in raw and config.url.startswith("http:"):
            raise ConfigError(f"{key}: has no effect while url is not https")
    if config.client_key is not None and config.client_certificate is None:
        raise ConfigError("client_key: needs client_certificate")
    for key in ("proxy_login_file", "no_proxy"):
        if key in raw and not config.proxy:
            raise ConfigError(f"{key}: needs proxy")
    if config.token_file is not None:
        read_secret("token_file", config.token_file)
    elif config.client_certificate is None:
        raise ConfigError("token_file: must be there, or client_certificate")
    if config.proxy_login_file is not None:
        read_secret("proxy_login_file", config.proxy_login_file)
    if config.url.startswith("https:"):
        from agent.connection import tls_context

        tls_context(config)


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}: must be a non-empty text")
    return value


def _path(raw: dict[str, Any], key: str, base: Path) -> Path | None:
    return base / _text(raw, key) if key in raw else None


def _texts(raw: dict[str, Any], key: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    """A list without doubles. An empty one would look as if something was set."""
    value = raw.get(key)
    if key not in raw:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and pattern.fullmatch(v) for v in value):
        raise ConfigError(f"{key}: must be a list of {what}")
    return tuple(dict.fromkeys(value))


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


def _hooks(raw: dict[str, Any]) -> dict[str, Command]:
    value = raw.get("hooks", {})
    if not isinstance(value, dict) or set(value) - set(HOOKS):
        raise ConfigError(f"hooks: may hold {', '.join(HOOKS)}")
    try:
        return read_hooks(value)
    except ValueError as error:
        raise ConfigError(f"hooks.{error}") from None


def _url(raw: dict[str, Any], key: str, schemes: tuple[str, ...]) -> str:
    url = _text(raw, key).rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username or not url.isascii() or " " in url:
        raise ConfigError(f"{key}: must be like {schemes[-1]}://host[:port][/path], without user, query or fragment")
    return url


def _reason(error: Exception) -> str:
    return error.strerror or "cannot be read" if isinstance(error, OSError) else "is not UTF-8 text"
