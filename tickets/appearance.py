"""How states look: one tone and one icon each, defined here and nowhere else; icons: frontend/icons.txt."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.core.exceptions import FieldDoesNotExist


@dataclass(frozen=True, slots=True)
class Appearance:
    """`tone` is a class of portal.css (`tone-green`), `icon` a symbol of the sprite."""

    tone: str
    icon: str


NEUTRAL = Appearance("neutral", "circle-dashed")
_NEW = Appearance("blue", "circle-dot")
_WORK = Appearance("cyan", "progress")
_WAIT = Appearance("amber", "hourglass")
_GOOD = Appearance("green", "circle-check")
_BAD = Appearance("red", "circle-x")
_BACK = Appearance("violet", "arrow-back-up")
_DONE = Appearance("neutral", "lock")
_OFF = Appearance("neutral", "ban")

# A state's name, or `model.state` where the same word means something else.
STATES: dict[str, Appearance] = {
    "new": _NEW,
    "draft": Appearance("neutral", "edit"),
    "requested": _NEW,
    "submitted": Appearance("blue", "send"),
    "assigned": Appearance("blue", "user"),
    "assessed": Appearance("blue", "clipboard-check"),
    "in_progress": _WORK,
    "root_cause_analysis": Appearance("cyan", "zoom-question"),
    "fix_in_progress": Appearance("cyan", "tool"),
    "on_hold": Appearance("amber", "player-pause"),
    "resolved": _GOOD,
    "closed": _DONE,
    "cancelled": _OFF,
    "authorised": Appearance("green", "shield-check"),
    "scheduled": Appearance("blue", "calendar-event"),
    "implementing": Appearance("cyan", "rocket"),
    "implemented": _GOOD,
    "reviewed": Appearance("green", "checklist"),
    "rejected": Appearance("red", "thumb-down"),
    "planned": Appearance("blue", "list-check"),
    "built": Appearance("blue", "package"),
    "testing": Appearance("cyan", "flask"),
    "test_failed": _BAD,
    "ready": _GOOD,
    "deploying": Appearance("cyan", "rocket"),
    "completed": _GOOD,
    "rolled_back": _BACK,
    "partially_rolled_back": _BACK,
    "rolled_back_with_exceptions": Appearance("amber", "arrow-back-up"),
    # Rollouts, waves and test runs
    "preparing": Appearance("blue", "hourglass"),
    "running": Appearance("cyan", "rocket"),
    "paused": Appearance("amber", "player-pause"),
    "rolling_back": _BACK,
    "aborting": Appearance("amber", "player-stop"),
    "aborted": Appearance("neutral", "player-stop"),
    "waiting": NEUTRAL,
    "soaking": Appearance("cyan", "hourglass"),
    "passed": _GOOD,
    "failed": _BAD,
    "applying": Appearance("cyan", "cloud-download"),
    "voided": _OFF,
    # Deployments
    "queued": NEUTRAL,
    "offered": Appearance("blue", "circle-dot"),
    "downloading": Appearance("blue", "cloud-download"),
    "installing": Appearance("cyan", "progress"),
    "confirming": Appearance("cyan", "progress-check"),
    "cancelling": Appearance("amber", "ban"),
    "unknown": Appearance("amber", "help-circle"),
    "succeeded": _GOOD,
    "superseded": _OFF,
    "excluded": Appearance("neutral", "eye-off"),
    "skipped": Appearance("green", "check"),
    "overdue": Appearance("amber", "clock"),
    "drift": Appearance("amber", "alert-triangle"),
    # Test environments
    "capturing": Appearance("blue", "versions"),
    "provisioning": Appearance("blue", "settings"),
    "snapshotting": Appearance("cyan", "archive"),
    "diskreception.waiting": _WAIT,
    "receiving": Appearance("cyan", "upload"),
    "checking": Appearance("cyan", "zoom-question"),
    "arrived": _GOOD,
    "done": _DONE,
    "revoked": _OFF,
    "expired": Appearance("neutral", "clock"),
    "reverting": Appearance("amber", "arrow-back-up"),
    "deleting": Appearance("amber", "trash"),
    "deleted": Appearance("neutral", "trash"),
    "destroying": Appearance("amber", "trash"),
    "destroyed": Appearance("neutral", "trash"),
    "error": _BAD,
    "power.running": Appearance("green", "player-play"),
    "power.starting": Appearance("cyan", "player-play"),
    "power.off": Appearance("neutral", "player-stop"),
    "power.absent": Appearance("neutral", "circle-dashed"),
    "power.paused": Appearance("amber", "player-pause"),
    "power.crashed": _BAD,
    "power.unknown": Appearance("amber", "help-circle"),
    "evidence.file_copy": Appearance("blue", "file"),
    "evidence.emulated": Appearance("cyan", "device-desktop"),
    "evidence.accelerated": Appearance("green", "server"),
    # Configuration items
    "ordered": NEUTRAL,
    "in_stock": Appearance("neutral", "archive"),
    "in_operation": _GOOD,
    "in_repair": Appearance("amber", "tool"),
    "retired": _DONE,
    "disposed": Appearance("neutral", "trash"),
    "healthy": Appearance("green", "heartbeat"),
    "impaired": Appearance("amber", "alert-triangle"),
    "down": Appearance("red", "alert-triangle"),
    # Software
    "version.draft": Appearance("neutral", "circle-dashed"),
    "withdrawn": Appearance("red", "ban"),
    # Decisions and verdicts
    "approved": Appearance("green", "thumb-up"),
    "breached": _BAD,
    "overridden": Appearance("amber", "user"),
    "insufficient": _WAIT,
    # The calendar
    "freeze": Appearance("violet", "barrier-block"),
    "window": Appearance("neutral", "tool"),
    # Messages
    "pending": _WAIT,
    "sent": Appearance("green", "mail"),
    "dead": _BAD,
    "portal_only": Appearance("neutral", "bell"),
    "held": _WAIT,
    "bundled": Appearance("neutral", "mail"),
}

PRIORITIES: dict[int, str] = {1: "red", 2: "orange", 3: "amber", 4: "blue", 5: "neutral"}

# The icon of each kind of object, in the navigation, the chain and search results.
KINDS: dict[str, str] = {
    "incident": "alert-triangle",
    "problem": "bug-off",
    "change": "git-pull-request",
    "release": "package",
    "rollout": "rocket",
    "configurationitem": "server",
    "product": "disc",
    "version": "versions",
    "testenvironment": "flask",
    "goldenimage": "archive",
    "wave": "versions",
    "freeze": "barrier-block",
    "window": "tool",
}


def appearance_of(state: str, model: str = "") -> Appearance:
    """Tone and icon of a state; an unknown one looks neutral."""
    return STATES.get(f"{model}.{state}") or STATES.get(state, NEUTRAL)


def choice_label(instance: Any, name: str) -> str:
    """What `get_…_display` says. That hashes all choices, in the reader's language, for each row of a list anew."""
    model: Any = type(instance)
    value = getattr(instance, name)
    return str(choices_of(model, name).get(value, value))


@cache
def choices_of(model: Any, name: str) -> dict[Any, Any]:
    """The labels of a field's values; empty where it has no choices, or the name is that of no field."""
    try:
        return dict(model._meta.get_field(name).flatchoices or ())
    except (AttributeError, FieldDoesNotExist):
        return {}
