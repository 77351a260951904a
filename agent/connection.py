"""One HTTP connection: TLS, proxy, and a limit on the time that an answer may take as a whole.

Certificates are always verified; there is no setting that turns it off. ``ssl`` is loaded only when a
connection needs it.
"""

from __future__ import annotations

import io
import time
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.config import Config, ConfigError, read_secret

if TYPE_CHECKING:
    import ssl

# An answer may take this many times the time-out for a single wait.
PATIENCE = 2


class Response(HTTPResponse):
    """An answer that must come within a time limit: a byte now and then does not keep it open."""

    def __init__(self, sock: Any, *arguments: Any, seconds: float, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._limited = _LimitedReader(self.fp.detach(), sock, seconds)  # type: ignore[attr-defined]
        self.fp = io.BufferedReader(self._limited)

    def allow(self, waits: float = PATIENCE) -> None:
        """Gives what is read next that many time-outs from now on."""
        self._limited.until = time.monotonic() + waits * self._limited.seconds


class _LimitedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: Any, seconds: float) -> None:
        self._raw = raw
        self._sock = sock
        self.seconds = seconds
        self.until = time.monotonic() + PATIENCE * seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(min(left, self.seconds))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class Connection:
    """A connection to the server of ``url``. ``ask`` raises OSError, HTTPException or ValueError."""

    def __init__(self, url: str, config: Config, *, own: bool) -> None:
        """``own``: the configured server, to which alone the client certificate is shown."""
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        self._seconds = config.http_timeout
        self._prefix = ""
        self._headers: dict[str, str] = {}
        proxy = urlsplit(config.proxy) if config.proxy and not _is_direct(host, config.no_proxy) else None
        near = (proxy.hostname or "", proxy.port or 3128) if proxy else (host, port)
        if secure:
            context = partial(tls_context, config, own=own)
            self._http: HTTPConnection = _TlsConnection(*near, self._seconds, host, context)
        else:
            self._http = HTTPConnection(*near, timeout=self._seconds)
        self._http.response_class = partial(Response, seconds=self._seconds)  # type: ignore[assignment]
        if proxy is None:
            return
        headers = _proxy_headers(config)
        if secure:
            self._http.set_tunnel(host, port, headers)
        else:
            self._prefix, self._headers = f"http://{parts.netloc}", headers

    @property
    def socket(self) -> Any:
        """The open socket, None without one."""
        return self._http.sock

    def ask(self, method: str, target: str, headers: dict[str, str], body: bytes | None = None) -> Response:
        """Sends a request and reads the head of the answer."""
        if self._http.sock is not None:
            self._http.sock.settimeout(self._seconds)
        self._http.request(method, self._prefix + target, body=body, headers={**headers, **self._headers})
        response = self._http.getresponse()
        assert isinstance(response, Response)
        return response

    def close(self) -> None:
        self._http.close()


class _TlsConnection(HTTPConnection):
    default_port = 443

    def __init__(self, host: str, port: int, timeout: float, server: str, context: Any) -> None:
        super().__init__(host, port, timeout=timeout)
        self._server = server
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock = self._context().wrap_socket(self.sock, server_hostname=self._server)


def tls_context(config: Config, *, own: bool = True) -> ssl.SSLContext:
    """The TLS settings, read anew so that renewed files count at once. Raises ConfigError."""
    import ssl

    try:
        context = ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)
    except OSError as error:
        raise ConfigError(f"ca_file {config.ca_file}: cannot be used ({error})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if config.tls_min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    if config.client_certificate is not None and own:
        key = str(config.client_key) if config.client_key else None
        try:
            # An empty password instead of a question on the terminal.
            context.load_cert_chain(str(config.client_certificate), key, password="")
        except OSError as error:
            text = f"client_certificate {config.client_certificate}: cannot be used with its key ({error})"
            raise ConfigError(f"{text}; the key may not be encrypted") from None
    return context


def _is_direct(host: str, no_proxy: tuple[str, ...]) -> bool:
    return any(host == name or host.endswith("." + name.lstrip(".")) for name in no_proxy)


def _proxy_headers(config: Config) -> dict[str, str]:
    if config.proxy_login_file is None:
        return {}
    import base64

    login = read_secret("proxy_login_file", config.proxy_login_file)
    return {"Proxy-Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
