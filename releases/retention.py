"""How long the media library keeps files: what a CI runs, may go back to, or is about to get is never removed.

Rows stay for ever, as history; a version whose files are gone is `archived`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from cmdb.models import InstalledVersion
from distribution.models import OPEN, DeploymentItem
from releases.models import PackageItem, Release, Rollout
from software.models import Version
from software.services import archive_version

REASONS: dict[str, str | Promise] = {
    "is_young": _("younger than the library keeps everything"),
    "is_newest": _("one of the newest of its product"),
    "is_running": _("runs on a CI"),
    "is_previous": _("a CI may go back to it"),
    "is_under_way": _("a deployment with it is under way"),
    "is_way_back": _("a rollout may still be taken back to it"),
    "is_packaged": _("in an open release"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A version with files, and why it is kept; no reason: it may go."""

    version: Version
    reasons: tuple[str, ...]


def look(*, now: datetime) -> Iterator[Finding]:
    """Every version that has files, with what needs them; two queries."""
    for version in _with_reasons(now).order_by("product", "order"):
        yield Finding(version, tuple(str(text) for name, text in REASONS.items() if getattr(version, name)))


def sweep(*, now: datetime) -> list[Version]:
    """Archives what nothing needs, one transaction each. Returns it; nothing while `LIBRARY_KEEP_DAYS` is 0."""
    if not settings.LIBRARY_KEEP_DAYS:
        return []
    swept = []
    for finding in list(look(now=now)):
        if not finding.reasons and _archive(finding.version, now):
            swept.append(finding.version)
    return swept


def _archive(version: Version, now: datetime) -> bool:
    with transaction.atomic():
        # Whoever wants to refer to it waits for this row, and then sees that it is archived.
        Version.objects.select_for_update().only("pk").get(pk=version.pk)
        found = _with_reasons(now).filter(pk=version.pk).first()
        # Its place among the newest was seen with all the others around it.
        if found is None or any(getattr(found, name) for name in REASONS if name != "is_newest"):
            return False
        return archive_version(version)


def _with_reasons(now: datetime) -> QuerySet[Version]:
    kept_since = now - timedelta(days=settings.LIBRARY_KEEP_DAYS)
    current = InstalledVersion.objects.filter(valid_to__isnull=True)
    items = DeploymentItem.objects.all()
    this, back = Q(to_version=OuterRef("pk")), Q(from_version=OuterRef("pk"))
    unsettled = Q(settled_at__isnull=True) | Q(finished_at__gt=kept_since) | Q(finished_at__isnull=True)
    rollouts = Rollout.objects.filter(unsettled).values("pk")
    place = Window(RowNumber(), partition_by=F("product"), order_by=F("order").desc())
    newest = Version.objects.filter(state=Version.State.READY).annotate(place=place)
    keep = newest.filter(place__lte=settings.LIBRARY_KEEP_VERSIONS).values_list("pk", flat=True)
    rows = Version.objects.exclude(state__in=[Version.State.DRAFT, Version.State.ARCHIVED]).select_related("product")
    return rows.annotate(
        is_young=Q(created_at__gt=kept_since),
        is_newest=Q(pk__in=list(keep)),
        is_running=Exists(current.filter(version=OuterRef("pk"))),
        is_previous=Exists(current.filter(replaced__version=OuterRef("pk"))),
        is_under_way=Exists(items.filter(this | back, deployment__state__in=OPEN)),
        is_way_back=Exists(items.filter(this | back, deployment__batch__wave__rollout__in=rollouts)),
        is_packaged=Exists(PackageItem.objects.filter(version=OuterRef("pk"), release__in=Release.objects.open())),
    )
