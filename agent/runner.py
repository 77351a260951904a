"""The loop: poll, act, report, sleep; and what to do after a crash or without a server."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from pathlib import Path

from agent.backoff import backoff, jitter
from agent.config import Config
from agent.ddi import Client, Poll, Unreachable
from agent.durable import write_json
from agent.errors import Abandoned, Cancelled, Stopped
from agent.install import Installer
from agent.journal import Journal
from agent.log import log
from agent.offer import Offer, read_offer
from agent.reports import Reports, feedback
from agent.state import State
from agent.store import Store
from agent.trust import Trust
from agent.version import VERSION

_DEFAULT_SLEEP = 300.0
_MAX_BACKOFF = 60.0
_CANCEL_CHECK_SECONDS = 2.0


class AlreadyRunning(Exception):
    """Another agent holds the lock of this CI folder."""


class Signals:
    """SIGTERM and SIGINT as a flag that also ends a sleep."""

    def __init__(self) -> None:
        self.stop = False
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop = True

    def wait(self, seconds: float) -> None:
        """Sleeps up to ``seconds``. Raises Stopped when a signal came, also before."""
        if not self.stop and seconds > 0:
            select.select([self._read], [], [], seconds)
        if self.stop:
            raise Stopped


def lock(folder: Path) -> int:
    """Takes the lock of the CI for as long as the process lives. Raises AlreadyRunning."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(10):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # `agent status` looks at the lock for a moment, and a killed agent takes a moment to vanish.
            time.sleep(0.05)
    else:
        owner = os.read(handle, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise AlreadyRunning(f"another agent runs for this folder (process {owner})")
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def is_running(folder: Path) -> bool:
    """Whether an agent holds the lock of the CI."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


class Agent:
    """One CI: loads its state, finishes what a crash left, then polls."""

    def __init__(self, config: Config, signals: Signals) -> None:
        folder = config.agent_folder
        self._config = config
        self._signals = signals
        self._status = folder / "status.json"
        self._status_text: dict[str, object] = {}
        self._online: bool | None = None
        self._problem: str | None = None
        self._failures = 0
        self._sleep = _DEFAULT_SLEEP
        self._next_cancel_check = 0.0
        self._state = State.load(folder / "state.json")
        self._trust = Trust.load(folder / "trust.json", config)
        self._store = Store(config.root)
        self._client = Client(config)
        self._reports = Reports(
            self._client,
            self._state,
            Journal(folder / "journal.jsonl"),
            config.root / "facts.json",
            self._store.running,
            self._trust,
        )
        self._installer = Installer(
            config,
            self._client,
            self._state,
            self._store,
            self._reports,
            self._trust,
            watch=self._watch,
            is_cancelled=self._is_cancelled,
            announce=self._announce,
        )

    def recover(self) -> None:
        """Finishes or takes back what was under way, and removes what nobody needs. Raises OSError."""
        action = self._state.action
        if action is not None:
            log(f"action {action.id}: found in phase {action.phase}")
        self._installer.finish()
        if self._state.action is None:
            self._installer.sweep()

    def run(self, *, once: bool) -> bool:
        """Polls for ever, or once. Returns whether all went well. Raises Stopped, StateError, OSError."""
        self.recover()
        while True:
            delay = self.cycle()
            if once:
                return self._failures == 0 and not self._reports.pending
            self._signals.wait(delay)

    def cycle(self) -> float:
        """One poll with all that follows from it; returns the seconds to sleep."""
        try:
            self._reports.flush()
            poll = self._client.poll()
            self._next_cancel_check = time.monotonic() + _CANCEL_CHECK_SECONDS
            if poll.sleep is not None:
                self._sleep = max(poll.sleep, self._config.poll_min_seconds)
            if poll.wants_attributes:
                self._reports.attributes_due = True
            self._act(poll)
            self._check_health(poll.health)
            self._reports.flush()
        except Unreachable as error:
            return self._back_off(error)
        self._failures = 0
        self._set_online(True, "")
        retry = self._reports.retry_in
        return self._sleep if retry is None else max(min(self._sleep, retry), 0.05)

    def _check_health(self, request: str) -> None:
        """Runs the health checks that the server asks for, once for each request; not in the middle of an action."""
        if not request or self._state.action is not None or self._reports.health.get("health.request") == request:
            return
        log(f"health check {request}")
        if self._state.health_request == request:
            said = dict.fromkeys(self._store.running(), "unknown: the agent ended during it")
        else:
            self._state.health_request = request
            self._state.save()
            said = self._installer.check_health()
        self._reports.tell_health(request, said)

    def _act(self, poll: Poll) -> None:
        try:
            if poll.cancel is not None:
                self._cancel(poll.cancel)
            elif poll.deployment is not None:
                self._deploy(poll.deployment, poll.deployment_query)
        except Cancelled:
            assert self._state.action is not None
            self._accept_cancel(self._state.action.id)
        except Abandoned:
            assert self._state.action is not None
            log(f"action {self._state.action.id}: the server no longer knows it")
            self._installer.discard()

    def _deploy(self, action: str, query: str) -> None:
        body = self._client.deployment(action, query)
        if body is None:
            return
        offer = read_offer(action, body)
        if self._is_closed(offer):
            self._send_close_again(action)
        elif any(report.action != action for report in self._state.outbox):
            log(f"action {action}: waits until earlier reports are delivered")
        else:
            self._installer.run(offer)

    def _is_closed(self, offer: Offer) -> bool:
        closed = self._state.closed.get(offer.action)
        return closed is not None and closed["content"] == offer.content()

    def _send_close_again(self, action: str) -> None:
        if not any(report.action == action and report.terminal for report in self._state.outbox):
            log(f"action {action}: already closed, its report is sent again")
            self._state.queue("feedback", action, self._state.closed[action]["body"], terminal=True)
            self._state.save()

    def _cancel(self, link: str) -> None:
        target = self._client.cancel_target(link)
        if target is None:
            return
        action = self._state.action
        if target in self._state.closed and (action is None or action.id != target):
            # What was really done wins over the cancellation.
            self._send_close_again(target)
        else:
            self._accept_cancel(target)

    def _accept_cancel(self, target: str) -> None:
        action = self._state.action
        if any(report.kind == "cancel" and report.action == target for report in self._state.outbox):
            return
        detail = "cancelled before anything was changed" if action and action.id == target else "nothing was under way"
        log(f"action {target}: {detail}")
        # One save for both: the action is gone and the answer is queued, or neither.
        if action is not None and action.id == target:
            self._state.action = None
        self._state.queue("cancel", target, feedback(target, "closed", "success", [detail]), terminal=True)
        self._state.save()
        if self._state.action is None:
            self._installer.sweep()
        self._announce()

    def _watch(self, seconds: float) -> None:
        """Waits, between two blocks of a download; notices SIGTERM and a cancellation."""
        deadline = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now >= self._next_cancel_check and self._state.action is not None:
                try:
                    cancelled = self._is_cancelled(self._state.action.id)
                except Unreachable:
                    cancelled = False
                if cancelled:
                    raise Cancelled
            self._signals.wait(max(0.0, min(deadline - now, _CANCEL_CHECK_SECONDS)))
            if time.monotonic() >= deadline:
                return

    def _is_cancelled(self, action: str) -> bool:
        self._next_cancel_check = time.monotonic() + _CANCEL_CHECK_SECONDS
        link = self._client.poll().cancel
        return link is not None and self._client.cancel_target(link) == action

    def _back_off(self, error: Unreachable) -> float:
        self._failures += 1
        # A server that restarts is noticed soon by those that poll often.
        ceiling = min(_MAX_BACKOFF, max(5 * self._sleep, 5.0)) if self._online is not None else 5.0
        delay = backoff(self._failures, 1.0, ceiling)
        if error.retry_after is not None:
            delay = max(delay, error.retry_after * jitter(1.0, 1.1))
        delay = max(delay, self._config.poll_min_seconds)
        self._set_online(False, str(error))
        return delay

    def _set_online(self, online: bool, reason: str) -> None:
        if online != self._online:
            log("connected" if online else f"no connection: {reason}")
        self._online, self._problem = online, reason or None
        self._announce()

    def _announce(self) -> None:
        """Writes status.json when something changed."""
        action = self._state.action
        status: dict[str, object] = {
            "agent_version": VERSION,
            "controller_id": self._config.controller_id,
            "process": os.getpid(),
            "connected": bool(self._online),
            "action": {"id": action.id, "phase": action.phase, "content": action.content} if action else None,
            "problem": self._problem,
            "last_action": _last_action(self._state),
            "pending_reports": len(self._state.outbox),
            "signatures": self._trust.mode,
            "key_set": self._trust.keys_number,
            "poll_seconds": self._sleep,
        }
        if status != self._status_text:
            self._status_text = status
            write_json(self._status, {**status, "changed": int(time.time())})


def _last_action(state: State) -> dict[str, object] | None:
    """The action closed last, as it was reported."""
    if not state.closed:
        return None
    action, closed = next(reversed(state.closed.items()))
    status = closed["body"]["status"]
    details = status["details"]
    return {"id": action, "result": status["result"]["finished"], "detail": details[0] if details else ""}


def run_agent(config: Config, *, once: bool) -> bool:
    """Runs the agent until it is stopped. Raises Stopped, AlreadyRunning, StateError, OSError."""
    signals = Signals()
    for folder in (config.root, config.agent_folder, config.agent_folder / "downloads"):
        folder.mkdir(parents=True, exist_ok=True)
    held = lock(config.agent_folder)
    failures = 0
    try:
        while True:
            started = time.monotonic()
            agent = Agent(config, signals)
            try:
                return agent.run(once=once)
            except OSError as error:
                # The state in memory may be ahead of the disk. Begin again from the disk, as after a crash.
                log(f"disk: {error}; starting over")
                if once:
                    raise
                failures = 0 if time.monotonic() - started > 600 else failures + 1
                signals.wait(backoff(failures + 1, 1.0, _MAX_BACKOFF))
    finally:
        os.close(held)
