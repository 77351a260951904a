"""Keeping the drifts of CIs in step with what they report. Callers hold the CI's lock."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from cmdb.flapping import flaps
from cmdb.models import ConfigurationItem, Drift, InstalledVersion
from software.models import Product
from tickets.exceptions import TransitionRefused
from tickets.lifecycle import check_permission


def note_report(
    ci: ConfigurationItem, product: Product, *, before: str | None, label: str | None, is_explained: bool, now: datetime
) -> bool:
    """Opens, changes or ends the drift of this product, now that the CI runs `label` (None: it is gone).

    `before` is what it ran (None: nothing that we know of). What is found at the first look contradicts nothing.
    Returns whether what runs now is drift.
    """
    drift = Drift.objects.filter(ci=ci, product=product, ended_at=None).first()
    reported = label or ""
    if drift is None:
        if is_explained or before is None:
            return False
        if not _taken_up(ci, product, before, reported, now):
            Drift.objects.create(ci=ci, product=product, expected=before, reported=reported, since=now)
        return True
    if is_explained or drift.expected == reported:
        end = Drift.End.RETURNED if drift.expected == reported else Drift.End.DEPLOYED
        Drift.objects.filter(pk=drift.pk).update(reported=reported, ended_at=now, end=end)
        return False
    Drift.objects.filter(pk=drift.pk).update(reported=reported)
    return True


def _taken_up(ci: ConfigurationItem, product: Product, expected: str, reported: str, now: datetime) -> bool:
    """Whether the drift that ended last goes on instead: a version that goes to and fro makes no drift each time."""
    last = Drift.objects.filter(ci=ci, product=product).order_by("-id").first()
    if last is None or last.end == Drift.End.ACCEPTED or not flaps(ci, product, now=now):
        return False
    Drift.objects.filter(pk=last.pk).update(expected=expected, reported=reported, ended_at=None, end="")
    return True


def accept_drift(ci: ConfigurationItem, *, actor: Any, now: datetime, product: Product) -> None:
    """What the CI runs of this product is from now on what is expected."""
    check_permission(actor, "cmdb.manage_cis", _("accept a drift"))
    with transaction.atomic():
        ConfigurationItem.objects.select_for_update(no_key=True).only("pk").get(pk=ci.pk)
        ended = Drift.objects.filter(ci=ci, product=product, ended_at=None).update(ended_at=now, end=Drift.End.ACCEPTED)
        if not ended:
            raise TransitionRefused(_("%(ci)s has no drift of %(product)s.") % {"ci": ci, "product": product})
        InstalledVersion.objects.filter(ci=ci, product=product, valid_to=None).update(is_drift=False)
