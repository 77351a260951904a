"""Reports to the server: queued on disk first, delivered in order, each with one content for ever."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.backoff import backoff
from agent.ddi import Answer, Client, Unreachable
from agent.failpoint import reach
from agent.journal import Journal
from agent.log import log, printable
from agent.offer import WAYS_BACK
from agent.state import Report, State
from agent.trust import Trust
from agent.version import VERSION

_MAX_DETAILS = 50
_MAX_DETAIL = 512
_MAX_ATTRIBUTES = 100
_MAX_ATTRIBUTE = 128
_MAX_BACKOFF = 60.0
# Answers that will not change by asking again.
_REFUSED = (400, 405, 413, 415, 422)
_GONE = (404, 410)
# What facts may not overwrite.
_OWN = ("version.", "agent.", "signatures", "health.")


def feedback(action: str, execution: str, finished: str, details: list[str]) -> dict[str, Any]:
    """The body of a feedback. Details are cut to 50 lines of 512: the first and the last ones."""
    lines = [printable(line, _MAX_DETAIL) for line in details]
    if len(lines) > _MAX_DETAILS:
        lines = [lines[0], *lines[1 - _MAX_DETAILS :]]
    return {
        "id": action,
        "timestamp": int(time.time() * 1000),
        "status": {"execution": execution, "result": {"finished": finished}, "details": lines},
    }


class Reports:
    """Delivers the outbox of ``state`` and the attributes.

    ``running`` tells what the CI really runs, at the moment of sending.
    """

    def __init__(
        self,
        client: Client,
        state: State,
        journal: Journal,
        facts: Path,
        running: Callable[[], dict[str, str]],
        trust: Trust,
    ) -> None:
        self._client = client
        self._state = state
        self._journal = journal
        self._facts = facts
        self._running = running
        self._trust = trust
        self._failures = 0
        self._not_before = 0.0
        self.attributes_due = True  # at every start
        # What the health checks said when the server asked last.
        self.health: dict[str, str] = {}
        # Actions in hand that the server said it does not know (any more).
        self.gone: set[str] = set()

    @property
    def pending(self) -> int:
        """Number of reports not delivered, the attributes counted as one."""
        return len(self._state.outbox) + self.attributes_due

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next try makes sense; None when nothing is pending."""
        return max(0.0, self._not_before - time.monotonic()) if self.pending else None

    def flush(self) -> bool:
        """Delivers what can be delivered now; True when nothing is left. Raises Unreachable, OSError."""
        if time.monotonic() < self._not_before:
            return not self.pending
        while self._state.outbox:
            if not self._deliver(self._state.outbox[0]):
                return False
        if self._state.attributes_due:
            self.attributes_due = True
        return self._put_attributes() if self.attributes_due else True

    def tell_health(self, request: str, said: dict[str, str]) -> None:
        """Sends what the health checks said with the attributes, from now on, until they are asked for again."""
        self.health = {f"health.{product}": printable(word, _MAX_ATTRIBUTE) for product, word in said.items()}
        self.health["health.request"] = request
        self.attributes_due = True

    def _deliver(self, report: Report) -> bool:
        reach("before_report")
        name = f"{report.kind} {report.body['status']['execution']}"
        answer = self._send(
            report.kind, report, lambda: self._client.send_report(report.kind, report.action, report.body)
        )
        if not _is_final(answer.status):
            self._postpone(answer, name)
            return False
        reach("after_report")
        action = self._state.action
        if answer.status in _GONE and action is not None and action.id == report.action:
            self.gone.add(report.action)
        if not 200 <= answer.status < 300:
            log(f"action {report.action}: {name} answered {answer.status}, not sent again")
        self._failures = 0
        self._state.outbox.remove(report)
        self._state.save()
        return True

    def _put_attributes(self) -> bool:
        body = {"mode": "replace", "data": self._attributes()}
        answer = self._send("configData", None, lambda: self._client.put_attributes(body), body)
        if not _is_final(answer.status):
            self._postpone(answer, "attributes")
            return False
        if not 200 <= answer.status < 300:
            log(f"attributes answered {answer.status}, not sent again")
        self._failures = 0
        self.attributes_due = False
        if self._state.attributes_due:
            self._state.attributes_due = False
            self._state.save()
        return True

    def _send(
        self, kind: str, report: Report | None, send: Callable[[], Answer], body: dict[str, Any] | None = None
    ) -> Answer:
        action, number = (report.action, report.number) if report else (None, None)
        content = report.body if report else body or {}
        try:
            answer = send()
        except Unreachable as error:
            self._journal.append(kind, action, content, number=number, error=str(error))
            raise
        self._journal.append(kind, action, content, number=number, status=answer.status)
        return answer

    def _postpone(self, answer: Answer, name: str) -> None:
        self._failures += 1
        delay = max(backoff(self._failures, 1.0, _MAX_BACKOFF), answer.retry_after or 0.0)
        self._not_before = time.monotonic() + delay
        log(f"{name} answered {answer.status}, again in {delay:.1f} s")

    def _attributes(self) -> dict[str, str]:
        data = {"agent.version": VERSION, "agent.ways_back": ",".join(WAYS_BACK), "signatures": self._trust.mode}
        if self._trust.keys_number is not None:
            data["signatures.keys"] = str(self._trust.keys_number)
        data.update((f"version.{product}", version) for product, version in self._running().items())
        data.update(self.health)
        for key, value in self._read_facts().items():
            is_plain = isinstance(value, (str, int, float)) and 0 < len(key) <= _MAX_ATTRIBUTE
            if is_plain and not key.startswith(_OWN) and len(data) < _MAX_ATTRIBUTES:
                data[key] = printable(str(value), _MAX_ATTRIBUTE)
        return data

    def _read_facts(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._facts.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log(f"facts.json is not used: {error}")
            return {}
        if not isinstance(facts, dict):
            log("facts.json is not used: it is not an object")
            return {}
        return facts


def _is_final(status: int) -> bool:
    return 200 <= status < 300 or status in _GONE or status in _REFUSED
