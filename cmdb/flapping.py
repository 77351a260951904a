"""Versions that reports change to and fro: past a number of changes, the single ones are folded into one row.

What runs now stays right, and the row that took the changes in says how many it stands for and when the last one was.
What a deployment brought is never folded.
"""

from datetime import datetime, timedelta

from django.db.models import Count, F, Q

from cmdb.models import ConfigurationItem, InstalledVersion
from software.models import Product

# So many rows are made for each CI and product within so long.
KEPT = ((10, timedelta(days=1)), (400, timedelta(days=365)))


def flaps(ci: ConfigurationItem, product: Product, *, now: datetime) -> bool:
    """Whether the version changed so often lately that a further change is not kept for itself. One query."""
    rows = InstalledVersion.objects.filter(ci=ci, product=product, valid_from__gt=now - max(p for _n, p in KEPT))
    counts = {f"n{most}": Count("pk", filter=Q(valid_from__gt=now - period)) for most, period in KEPT}
    found = rows.aggregate(**counts)
    return any(found[f"n{most}"] >= most for most, _period in KEPT)


def make_room(ci: ConfigurationItem, product: Product, *, now: datetime) -> InstalledVersion | None:
    """The newest row, to be written anew, after the one before it took it in; None: a new row is due.

    The caller holds the CI's lock and writes into the row what runs from `now` on.
    """
    newest = list(InstalledVersion.objects.filter(ci=ci, product=product).order_by("-id")[:2])
    if len(newest) < 2 or not all(row.changes for row in newest) or not flaps(ci, product, now=now):
        return None
    last, before = newest
    InstalledVersion.objects.filter(pk=before.pk).update(
        label=last.label,
        version=last.version_id,
        source="",
        is_drift=last.is_drift,
        valid_to=now,
        changes=F("changes") + last.changes,
    )
    return last
