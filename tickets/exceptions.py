"""What the domain refuses. Every message is fit for the person who asked and says what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext as _


class DomainError(Exception):
    """A request that the domain cannot fulfil. `code` is stable for API clients, `message` is for people."""

    code = "refused"
    status = 400

    def __init__(self, message: str, *, code: str | None = None, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = str(message)
        self.code = code or self.code
        self.detail = dict(detail or {})


class TransitionRefused(DomainError):
    """The object is in another state than the verb needs, or somebody else was first (HTTP 409)."""

    code = "transition_refused"
    status = 409


class EditConflict(TransitionRefused):
    """Somebody else changed the object since it was read (HTTP 409).

    `version` is the one that it has now, `changes` are `tickets.history.FieldChange`: who, when, what, from what to
    what. Nobody loses what he typed: who has looked at them may save again, over the new version.
    """

    code = "edit_conflict"

    def __init__(self, number: str, *, version: int, changes: Sequence[Any]) -> None:
        self.version, self.changes = version, list(changes)
        text = _("%(number)s was changed by somebody else meanwhile. Look at what changed, then save yours again.")
        facts = {"version": version, "changes": [asdict(change) for change in self.changes]}
        super().__init__(text % {"number": number}, detail=facts)


class ConditionRefused(TransitionRefused):
    """The state fits, but something else is missing: an approval, a passed test, a reason (HTTP 409)."""

    code = "condition_refused"


class PermissionRefused(DomainError):
    """The person may not do this (HTTP 403)."""

    code = "permission_refused"
    status = 403


class SeparationOfDuties(PermissionRefused):
    """The person has the right, but took part in what he would now approve (HTTP 403)."""

    code = "separation_of_duties"


class InvalidInput(DomainError):
    """A value that cannot be taken. `field` names it."""

    code = "invalid"

    def __init__(self, message: str, *, field: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code, detail={"field": field} if field else None)
        self.field = field


def activity_refused(process: str, activity: str, allowed: str) -> InvalidInput:
    """The refusal of a pair of process and maintenance activity, with the processes that do apply."""
    return InvalidInput(
        _("%(activity)s is not handled by %(process)s. The processes that apply to it: %(allowed)s.")
        % {"activity": activity, "process": process, "allowed": allowed},
        field="activity",
        code="activity_refused",
    )
