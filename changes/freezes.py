"""Declaring freezes. The engine of the rollouts asks for them; see `releases.windows`."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.timezone import is_naive
from django.utils.translation import gettext as _

from changes.models import Freeze
from tickets.exceptions import ConditionRefused, InvalidInput
from tickets.lifecycle import check_permission
from tickets.services import required, validate

MANAGE = "changes.manage_change"
FIELDS = ("name", "reason", "starts_at", "ends_at", "binds_emergencies")


def declare_freeze(*, actor: Any, now: datetime, **values: Any) -> Freeze:
    """A new freeze, with the fields of `FIELDS`. Refuses one that would be over already."""
    check_permission(actor, MANAGE, _("declare freezes"))
    freeze = Freeze(created_by=actor, created_at=now)
    return _write(freeze, now, values)


def edit_freeze(freeze: Freeze, *, actor: Any, now: datetime, **values: Any) -> Freeze:
    """Changes a freeze that is not over; what is not given stays. It ends at once when its end is set to the past."""
    check_permission(actor, MANAGE, _("change freezes"))
    with transaction.atomic():
        freeze = Freeze.objects.select_for_update().get(pk=freeze.pk)
        if freeze.ends_at <= now:
            raise ConditionRefused(_("%(number)s is over. Declare another one.") % {"number": freeze.number})
        if "ends_at" in values and freeze.starts_at <= now:
            # What was, was: it cannot end before now.
            values["ends_at"] = max(values["ends_at"], now)
        return _write(freeze, now, values)


def _write(freeze: Freeze, now: datetime, values: dict[str, Any]) -> Freeze:
    for field, value in values.items():
        if field not in FIELDS:
            raise InvalidInput(_("This cannot be edited: %(name)s.") % {"name": field})
        setattr(freeze, field, value)
    required(freeze.name, "name", _("Name it, so that people recognise it."))
    required(freeze.reason, "reason", _("Say why nothing is to be changed."))
    for field in ("starts_at", "ends_at"):
        value = getattr(freeze, field)
        if value is None or is_naive(value):
            raise InvalidInput(_("Give a time with its zone."), field=field)
    if freeze.ends_at < freeze.starts_at or (freeze.pk is None and freeze.ends_at <= now):
        raise InvalidInput(_("It must end after its start, and in the future."), field="ends_at")
    validate(freeze)
    freeze.save()
    return freeze
