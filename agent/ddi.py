"""The HTTP client of the DDI protocol: one kept connection for the API, one more per download."""

from __future__ import annotations

import json
import re
import select
from contextlib import suppress
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from agent.config import Config, ConfigError, read_secret
from agent.connection import Connection, Response
from agent.offer import is_action_id
from agent.untrusted import read_object
from agent.version import VERSION

_MAX_BODY = 4 * 1024 * 1024
_MAX_REDIRECTS = 5
_MAX_RETRY_AFTER = 3600.0
_MAX_SLEEP = 86_400.0
_SLEEP = re.compile(r"(\d{2}):(\d{2}):(\d{2})")
_ASKED_HEALTH = re.compile(r"/configData\?health=(\d{1,18})$")
_LINKED_ACTION = re.compile(r"/(deploymentBase|cancelAction)/(\d{1,10})(\?[\x21-\x7e]*)?$")


class Unreachable(Exception):
    """The server gave no usable answer; try later, after ``retry_after`` seconds if it asked for that."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Answer(NamedTuple):
    """What the server said. ``retry_after`` in seconds, None if it did not say."""

    status: int
    body: bytes
    retry_after: float | None


class Poll(NamedTuple):
    """One answer to a poll. ``sleep`` in seconds, None if not said; ids are None without a link.

    ``health`` is the number of a health check that is asked for, "" if none is.
    """

    sleep: float | None
    deployment: str | None
    deployment_query: str
    cancel: str | None
    wants_attributes: bool
    health: str = ""


class Client:
    """Talks to one server as one controller. No method retries a report by itself."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._origin = _origin(config.url)
        path = urlsplit(config.url).path
        controller = quote(config.controller_id, safe="")
        self._base = f"{path}/{quote(config.tenant)}/controller/v1/{controller}"
        self._token = ""
        self._read_token()
        self._connection: Connection | None = None

    def close(self) -> None:
        """Closes the kept connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def poll(self) -> Poll:
        """Asks what to do. Raises Unreachable for everything but a sound 200."""
        body = self._get("")
        if body is None:
            raise Unreachable("the server does not know this controller (404)")
        links = body.get("_links")
        links = links if isinstance(links, dict) else {}
        deployment, query = _linked_action(links, "deploymentBase")
        cancel, _ = _linked_action(links, "cancelAction")
        return Poll(_polling_sleep(body), deployment, query, cancel, "configData" in links, _asked_health(links))

    def deployment(self, action: str, query: str) -> dict[str, Any] | None:
        """The body of deploymentBase, or None when it is gone. Raises Unreachable."""
        return self._get(f"/deploymentBase/{action}{query}")

    def cancel_target(self, action: str) -> str | None:
        """The id of the action to stop, or None when the cancellation is gone. Raises Unreachable."""
        body = self._get(f"/cancelAction/{action}")
        if body is None:
            return None
        cancel = body.get("cancelAction")
        target = cancel.get("stopId") if isinstance(cancel, dict) else None
        if not is_action_id(target):
            raise Unreachable("cancelAction without a usable stopId")
        return str(target)

    def send_report(self, kind: str, action: str, body: dict[str, Any]) -> Answer:
        """Sends one feedback (kind "feedback" or "cancel"). Raises Unreachable when there was no answer."""
        resource = "deploymentBase" if kind == "feedback" else "cancelAction"
        return self._request("POST", f"/{resource}/{action}/feedback", body)

    def put_attributes(self, body: dict[str, Any]) -> Answer:
        """Replaces the attributes on the server. Raises Unreachable when there was no answer."""
        return self._request("PUT", "/configData", body)

    def open_download(self, url: str, offset: int) -> tuple[Connection, Response]:
        """Starts a download at ``offset`` bytes; the caller closes the connection. Raises Unreachable."""
        for _ in range(_MAX_REDIRECTS + 1):
            headers = self._headers("application/octet-stream") if _origin(url) == self._origin else {}
            headers["Accept-Encoding"] = "identity"
            if offset:
                headers["Range"] = f"bytes={offset}-"
            connection = self._connect(url)
            try:
                parts = urlsplit(url)
                target = parts.path + (f"?{parts.query}" if parts.query else "")
                response = connection.ask("GET", target or "/", headers)
            except (OSError, HTTPException, ValueError, ConfigError) as error:
                connection.close()
                raise Unreachable(f"download: {_reason(error)}") from None
            location = response.getheader("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                return connection, response
            connection.close()
            before = url
            try:
                url = urljoin(url, location)
            except ValueError:
                raise Unreachable("download: redirected to something that is no address") from None
            if not url.startswith(("http://", "https://")):
                raise Unreachable("download: redirected to something that is not http or https")
            if before.startswith("https:") and url.startswith("http:"):
                raise Unreachable("download: redirected from https to http")
        raise Unreachable("download: too many redirects")

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            answer = self._request("GET", path, None)
        except Unreachable:
            # A kept connection may die in the very moment of use. Reading twice harms nobody.
            answer = self._request("GET", path, None)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Unreachable(f"the server answered {answer.status}", answer.retry_after)
        try:
            return read_object(answer.body)
        except ValueError as error:
            raise Unreachable(f"the answer is not usable JSON: {error}") from None

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Answer:
        headers = self._headers("application/json")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = self._kept_connection()
        try:
            response = connection.ask(method, self._base + path, headers, data)
            content = _read_body(response)
        except (OSError, HTTPException, ValueError, ConfigError) as error:
            self.close()
            raise Unreachable(_reason(error)) from None
        if response.will_close:
            self.close()
        if response.status in (401, 403):
            # The token may have been rotated since the start.
            with suppress(ConfigError):
                self._read_token()
        return Answer(response.status, content, retry_after(response))

    def _kept_connection(self) -> Connection:
        socket = self._connection.socket if self._connection is not None else None
        # Readable before anything was asked means that the server closed it while idle.
        if socket is not None and select.select([socket], [], [], 0)[0]:
            self.close()
        if self._connection is None:
            self._connection = self._connect(self._config.url)
        return self._connection

    def _connect(self, url: str) -> Connection:
        try:
            return Connection(url, self._config, own=_origin(url) == self._origin)
        except (ValueError, HTTPException, ConfigError) as error:
            raise Unreachable(f"unusable address: {_reason(error)}") from None

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"update-agent/{VERSION}"}
        if self._token:
            headers["Authorization"] = f"{self._config.token_scheme} {self._token}"
        return headers

    def _read_token(self) -> None:
        if self._config.token_file is not None:
            self._token = read_secret("token_file", self._config.token_file)


def retry_after(response: Response) -> float | None:
    """The seconds that the server asks to wait, None if it did not say so."""
    value = (response.getheader("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _MAX_RETRY_AFTER)
    if not value:
        return None
    from email.utils import parsedate_to_datetime

    try:
        # A date counts from the date of the answer: only the server's clock matters.
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(response.getheader("Date") or "")
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(max(wait.total_seconds(), 0.0), _MAX_RETRY_AFTER)


def _read_body(response: Response) -> bytes:
    content = b""
    while part := response.read1(65536):
        content += part
        if len(content) > _MAX_BODY:
            raise HTTPException("the answer is too long")
    # read1() does not notice a body that was cut short; the length left over does.
    if response.length:
        raise HTTPException("the answer was cut short")
    response.close()
    return content


def _linked_action(links: dict[str, Any], name: str) -> tuple[str | None, str]:
    # Only the id and the query are taken from a link: the token goes to the configured address only.
    link = links.get(name)
    href = link.get("href") if isinstance(link, dict) else None
    found = _LINKED_ACTION.search(href) if isinstance(href, str) else None
    if not found or found[1] != name or not is_action_id(found[2]):
        return None, ""
    return found[2], found[3] or ""


def _asked_health(links: dict[str, Any]) -> str:
    link = links.get("configData")
    href = link.get("href") if isinstance(link, dict) else None
    found = _ASKED_HEALTH.search(href) if isinstance(href, str) and href.isascii() else None
    return found[1] if found else ""


def _polling_sleep(body: dict[str, Any]) -> float | None:
    config = body.get("config")
    polling = config.get("polling") if isinstance(config, dict) else None
    sleep = polling.get("sleep") if isinstance(polling, dict) else None
    found = _SLEEP.fullmatch(sleep) if isinstance(sleep, str) else None
    seconds = float(int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])) if found else None
    return None if seconds is None else min(seconds, _MAX_SLEEP)


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", "", 0


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
