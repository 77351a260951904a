"""The health of a CI: derived from its open incidents, never stored."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Min
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from incidents.models import Incident
from tickets.models import Priority


@dataclass(frozen=True, slots=True)
class Health:
    """`state` is healthy, impaired or down; `open_incidents` says why."""

    state: str
    label: str | Promise
    open_incidents: int


def health_of(ci: Any) -> Health:
    """down: an open incident of the two highest priorities; impaired: another one is open; healthy: none."""
    found = Incident.objects.filter(ci=ci).open().aggregate(count=Count("pk"), worst=Min("priority"))
    if not found["count"]:
        return Health("healthy", _("healthy"), 0)
    if found["worst"] <= Priority.HIGH:
        return Health("down", _("down"), found["count"])
    return Health("impaired", _("impaired"), found["count"])
