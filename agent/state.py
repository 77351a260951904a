"""The agent's memory on disk: the action in hand, reports not yet delivered, actions already closed.

Every change that matters is saved before the next step is taken, so that a process killed at any point finds
here what to finish or to take back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from agent.durable import write_json
from agent.offer import Item, Offer

OFFERED = "offered"
DOWNLOADING = "downloading"
DOWNLOADED = "downloaded"
UNPACKED = "unpacked"
PREPARING = "preparing"
LEAVING = "leaving"
SWITCHING = "switching"
SWITCHED = "switched"
HEALTHY = "healthy"
REVERTING = "reverting"
REVERTED = "reverted"

BEFORE_SWITCH = (OFFERED, DOWNLOADING, DOWNLOADED, UNPACKED)

# Closed actions are remembered to never install them twice; a server shows only its newest open action.
CLOSED_KEPT = 200


class StateError(Exception):
    """state.json exists but cannot be understood; going on would risk installing twice."""


class Report(NamedTuple):
    """One message to the server, kept word for word until it is delivered."""

    number: int
    kind: str  # "feedback" or "cancel"
    action: str
    terminal: bool
    body: dict[str, Any]


class Action:
    """The action in hand and how far it got."""

    def __init__(self, action_id: str, content: str, items: tuple[Item, ...]) -> None:
        self.id = action_id
        self.content = content
        self.items = items
        self.phase = OFFERED
        # Executions already reported: a restart must not report them again.
        self.reported: list[str] = []
        # Version label per product before the switch; None where the product had no current version.
        self.previous: dict[str, str | None] = {}
        # How often each kind of hook began; one during which the agent keeps dying is the cause.
        self.pre_runs = 0
        self.health_runs = 0
        self.revert_runs = 0
        self.leave_runs = 0
        # Whether what leads back was kept, or what the version that runs had done was undone.
        self.left = False
        # Version and counter per product that a signature allows; empty without signatures.
        self.approved: dict[str, tuple[str, int]] = {}
        self.failure: list[str] = []

    @property
    def is_before_switch(self) -> bool:
        """Whether nothing that the CI runs was touched yet."""
        return self.phase in BEFORE_SWITCH

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "items": [list(item) for item in self.items]}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Action:
        action = cls(raw["id"], raw["content"], tuple(Item(*fields) for fields in raw["items"]))
        for name in ("phase", "reported", "previous", "health_runs", "failure"):
            setattr(action, name, raw[name])
        # Members that files of agent 1.0 do not have.
        action.pre_runs, action.revert_runs = int(raw.get("pre_runs", 0)), int(raw.get("revert_runs", 0))
        action.leave_runs, action.left = int(raw.get("leave_runs", 0)), bool(raw.get("left", False))
        action.approved = {product: (str(v), int(c)) for product, (v, c) in raw.get("approved", {}).items()}
        return action


class State:
    """state.json in memory. Change the members, then call save()."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.action: Action | None = None
        self.outbox: list[Report] = []
        # Action id -> {"content": ..., "body": terminal report}, oldest first.
        self.closed: dict[str, dict[str, Any]] = {}
        self.attributes_due = False
        self.last_report = 0
        # Number of the health check that was begun last; it is never begun again.
        self.health_request = ""

    @classmethod
    def load(cls, path: Path) -> State:
        """The state saved in ``path``, or an empty one. Raises StateError, OSError."""
        state = cls(path)
        try:
            raw = json.loads(path.read_bytes())
        except FileNotFoundError:
            return state
        except ValueError as error:
            raise StateError(f"{path}: not valid JSON ({error})") from None
        try:
            if raw["format"] != 1:
                raise StateError(f"{path}: written by another version of the agent (format {raw['format']})")
            state.action = Action.from_json(raw["action"]) if raw["action"] else None
            state.outbox = [Report(**report) for report in raw["outbox"]]
            state.closed = dict(raw["closed"])
            state.attributes_due = bool(raw["attributes_due"])
            state.last_report = int(raw["last_report"])
            state.health_request = str(raw.get("health_request", ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"{path}: not a state of this agent ({error!r})") from None
        return state

    def save(self) -> None:
        """Makes the present state durable. Raises OSError."""
        write_json(
            self.path,
            {
                "format": 1,
                "action": self.action.to_json() if self.action else None,
                "outbox": [report._asdict() for report in self.outbox],
                "closed": self.closed,
                "attributes_due": self.attributes_due,
                "last_report": self.last_report,
                "health_request": self.health_request,
            },
        )

    def begin(self, offer: Offer) -> Action:
        """Takes ``offer`` in hand and saves it."""
        self.action = Action(offer.action, offer.content(), offer.items)
        self.save()
        return self.action

    def enter(self, action: Action, phase: str) -> None:
        """Saves that ``action`` reached ``phase``."""
        action.phase = phase
        self.save()

    def queue(self, kind: str, action_id: str, body: dict[str, Any], *, terminal: bool) -> None:
        """Adds a report at the end of the outbox; the caller saves, together with the step it belongs to."""
        self.last_report += 1
        self.outbox.append(Report(self.last_report, kind, action_id, terminal, body))

    def close(self, action_id: str, content: str, body: dict[str, Any]) -> None:
        """Ends the action in one durable step: its report is queued, and it is never run again."""
        self.queue("feedback", action_id, body, terminal=True)
        self.closed.pop(action_id, None)
        self.closed[action_id] = {"content": content, "body": body}
        while len(self.closed) > CLOSED_KEPT:
            del self.closed[next(iter(self.closed))]
        self.action = None
        self.attributes_due = True
        self.save()

    def drop_action(self) -> None:
        """Forgets the action in hand and its undelivered reports, and saves."""
        if self.action is not None:
            gone = self.action.id
            self.outbox = [report for report in self.outbox if report.action != gone]
            self.action = None
        self.save()
