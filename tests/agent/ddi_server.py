"""A small DDI server for the tests: real HTTP, in memory, with faults on demand."""

import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.agent.signer import KeyHolder

TOKEN = "secret-token-of-ci-0001"
BASE = "/DEFAULT/controller/v1/ci-0001"


class Action:
    """What the server knows about one action; ``events`` are the feedbacks it answered with 200."""

    def __init__(self, number: int, chunks: list[dict[str, Any]]) -> None:
        self.id = str(number)
        self.chunks = chunks
        self.state = "open"  # open, cancelling, cancelled, closed
        self.update = "forced"
        self.deployment: Any = ...  # given instead of the right one
        self.cancel_on = ""  # the execution whose report makes the operator cancel
        self.events: list[dict[str, Any]] = []
        self.cancel_answers: list[dict[str, Any]] = []

    @property
    def executions(self) -> list[str]:
        return [event["status"]["execution"] for event in self.events]

    @property
    def closes(self) -> list[tuple[str, list[str]]]:
        """Result and details of every accepted terminal report."""
        return [
            (event["status"]["result"]["finished"], event["status"]["details"])
            for event in self.events
            if event["status"]["execution"] == "closed"
        ]


class DdiServer:
    """Offers the first action that is open. ``faults``: method, regex, answer given instead."""

    def __init__(self) -> None:
        self.port = 0
        self.actions: list[Action] = []
        self.files: dict[str, bytes] = {}
        self.attributes: dict[str, str] | None = None
        self.attribute_puts: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.accepted: list[tuple[str, str | None, dict[str, Any]]] = []
        self.holder: KeyHolder | None = None  # signs every chunk that is offered
        self.faults: list[tuple[str, str, dict[str, Any]]] = []
        self.poll_answer: Any = None  # given instead of the right one
        self.sleep = "00:00:01"
        self.health: object = None  # number of a health check that is asked for
        self.chunk_delay = 0.0
        self.lock = threading.RLock()
        self.tls: ssl.SSLContext | None = None
        self._http: ThreadingHTTPServer | None = None

    def start(self) -> "DdiServer":
        handler = type("Handler", (_Handler,), {"ddi": self})
        ThreadingHTTPServer.allow_reuse_address = True
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        if self.tls is not None:
            self._http.socket = self.tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def chunk(self, product: str, version: str, data: bytes, **changes: Any) -> dict[str, Any]:
        """A chunk for ``data``, served as a file; ``changes`` overwrite members of its artifact."""
        name = f"{product}-{version}-{len(self.files)}.tar.gz"
        self.files[name] = data
        href = f"{self.url}{BASE}/softwaremodules/1/artifacts/{name}"
        artifact = {
            "filename": name,
            "size": len(data),
            "hashes": {"sha1": hashlib.sha1(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()},
            "_links": {"download": {"href": href}},
            **changes,
        }
        return {"part": product, "name": product, "version": version, "artifacts": [artifact]}

    def offer(self, *chunks: dict[str, Any]) -> Action:
        action = Action(41 + len(self.actions), [self.holder.signed(c) if self.holder else c for c in chunks])
        with self.lock:
            self.actions.append(action)
        return action

    def fault(self, method: str, path: str, **how: Any) -> None:
        """One fault for the next request that matches: status=, headers=, drop=True (after doing the work),
        cut=N (bytes of a download, then the end), endless=True; execution= limits it to such feedback.
        """
        with self.lock:
            self.faults.append((method, path, how))

    def take_fault(self, method: str, path: str, body: Any) -> dict[str, Any]:
        with self.lock:
            for entry in self.faults:
                execution = entry[2].get("execution")
                if execution and execution != (body or {}).get("status", {}).get("execution"):
                    continue
                if entry[0] == method and re.search(entry[1], path):
                    self.faults.remove(entry)
                    return entry[2]
        return {}

    def wait(self, condition: Any, seconds: float = 10.0) -> None:
        """Waits until ``condition()`` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    @property
    def shown(self) -> Action | None:
        return next((a for a in self.actions if a.state in ("open", "cancelling")), None)


class _Handler(BaseHTTPRequestHandler):
    ddi: DdiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def _handle(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path = self.path.partition("?")[0]
        with self.ddi.lock:
            self.ddi.requests.append((method, path, {k.lower(): v for k, v in self.headers.items()}))
        fault = self.ddi.take_fault(method, path, body)
        if "status" in fault:
            self._answer(fault["status"], {"message": "fault"}, fault.get("headers", {}))
            return
        if self.headers.get("Authorization") != f"TargetToken {TOKEN}" or not path.startswith(BASE):
            self._answer(401, None)
            return
        rest = path.removeprefix(BASE)
        if "/artifacts/" in rest:
            self._download(rest.rpartition("/")[2], fault)
            return
        with self.ddi.lock:
            status, answer = self._route(method, rest, body)
        if fault.get("drop"):
            self.close_connection = True
            self.connection.close()
            return
        self._answer(status, answer)

    def _route(self, method: str, rest: str, body: Any) -> tuple[int, Any]:
        ddi = self.ddi
        if (method, rest) == ("GET", ""):
            return 200, ddi.poll_answer or self._poll()
        if (method, rest) == ("PUT", "/configData"):
            ddi.attributes = body["data"]
            ddi.attribute_puts.append(body)
            ddi.accepted.append(("configData", None, body))
            return 200, None
        found = re.fullmatch(r"/(deploymentBase|cancelAction)/(\d+)(/feedback)?", rest)
        action = next((a for a in ddi.actions if found and a.id == found[2]), None)
        if not found or action is None:
            return 404, None
        if method == "GET" and found[1] == "deploymentBase":
            if action.state not in ("open", "closed"):
                return 404, None
            deployment = {"download": "forced", "update": action.update, "chunks": action.chunks}
            return 200, {"id": action.id, "deployment": deployment if action.deployment is ... else action.deployment}
        if method == "GET":
            shown = action.state in ("cancelling", "cancelled")
            return (200, {"id": action.id, "cancelAction": {"stopId": action.id}}) if shown else (404, None)
        return self._feedback(found[1], action, body)

    def _feedback(self, resource: str, action: Action, body: Any) -> tuple[int, Any]:
        status = body["status"]
        if resource == "cancelAction":
            if action.state not in ("cancelling", "cancelled"):
                return 405, None
            action.cancel_answers.append(body)
            self.ddi.accepted.append(("cancel", action.id, body))
            if status["execution"] == "closed" and status["result"]["finished"] != "failure":
                action.state = "cancelled"
            return 200, None
        if action.state in ("closed", "cancelled"):
            return 410, None
        action.events.append(body)
        self.ddi.accepted.append(("feedback", action.id, body))
        if status["execution"] == "closed":
            action.state = "closed"
        elif status["execution"] == action.cancel_on:
            action.state = "cancelling"
        return 200, None

    def _poll(self) -> dict[str, Any]:
        links = {}
        action = self.ddi.shown
        if action is not None and action.state == "cancelling":
            links["cancelAction"] = {"href": f"{self.ddi.url}{BASE}/cancelAction/{action.id}"}
        elif action is not None:
            links["deploymentBase"] = {"href": f"{self.ddi.url}{BASE}/deploymentBase/{action.id}?c=17"}
        if self.ddi.attributes is None:
            links["configData"] = {"href": f"{self.ddi.url}{BASE}/configData"}
        if self.ddi.health is not None:
            links["configData"] = {"href": f"{self.ddi.url}{BASE}/configData?health={self.ddi.health}"}
        return {"config": {"polling": {"sleep": self.ddi.sleep}}, "_links": links}

    def _download(self, name: str, fault: dict[str, Any]) -> None:
        data = self.ddi.files.get(name)
        action = self.ddi.shown
        if data is None or action is None or action.state != "open":
            self._answer(404, None)
            return
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        if found and start >= len(data):
            self._answer(416, None, {"Content-Range": f"bytes */{len(data)}"})
            return
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if fault.get("endless"):
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        try:
            for part in self._parts(data[start:], fault):
                self.wfile.write(part)
                time.sleep(self.ddi.chunk_delay)
        except OSError:
            pass
        if fault:
            self.close_connection = True

    def _parts(self, data: bytes, fault: dict[str, Any]) -> Iterator[bytes]:
        data = data[: fault["cut"]] if "cut" in fault else data
        for start in range(0, len(data), 16384):
            yield data[start : start + 16384]
        while fault.get("endless"):
            yield b"x" * 16384

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        if "Date" in (headers or {}):
            self.send_response_only(status)
        else:
            self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running_server() -> Iterator[DdiServer]:
    server = DdiServer().start()
    try:
        yield server
    finally:
        server.stop()
