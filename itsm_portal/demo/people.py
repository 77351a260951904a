"""The people of the story as API clients: each logs in with his own token and asks for what he may do."""

import time
from collections.abc import Callable
from typing import Any

import httpx


class Refused(RuntimeError):
    """The portal refused a request of the story."""


class Person:
    """One person at the portal's API."""

    def __init__(self, base_url: str, username: str, password: str) -> None:
        self.username = username
        self._http = httpx.Client(base_url=f"{base_url}/api/v1", timeout=30, trust_env=False)
        self._login(password)

    def _login(self, password: str) -> None:
        answer = self._http.post("/login/", json={"username": self.username, "password": password})
        if answer.status_code != 200:
            raise Refused(f"login of {self.username}: {answer.status_code} {answer.text}")
        self._http.headers["Authorization"] = f"Token {answer.json()['token']}"

    def get(self, path: str, **params: Any) -> Any:
        return self._read(self._retried(lambda: self._http.get(path, params=params)))

    def post(self, path: str, **values: Any) -> Any:
        return self._read(self._http.post(path, json=values))

    def upload(self, path: str, filename: str, content: bytes) -> Any:
        return self._read(
            self._http.post(
                path,
                params={"filename": filename},
                content=content,
                headers={"Content-Type": "application/octet-stream"},
            )
        )

    def _retried(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """Reading again is harmless: a web process may be killed at any moment of the story."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return ask()
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _read(self, answer: httpx.Response) -> Any:
        if answer.status_code >= 400:
            raise Refused(
                f"{self.username}: {answer.request.method} {answer.url.path}: {answer.status_code} {answer.text}"
            )
        return answer.json() if answer.content else None
