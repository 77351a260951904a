"""What people accept for a release in spite of a gate: recorded by name, with the reason, for just this content."""

from datetime import datetime

from accounts.models import User
from cmdb.models import ConfigurationItem
from releases.models import Release, RolloutException
from releases.services.content import release_hash


def accept(
    release: Release, kind: str, *, actor: User, now: datetime, reason: str, ci: ConfigurationItem | None = None
) -> tuple[RolloutException, bool]:
    """The exception of the locked release's present content, and whether it is new: accepted again, it stays as it
    is. The caller has checked the right.
    """
    content = release_hash(release)
    accepted = release.exceptions.filter(
        kind=kind, ci=ci, content_hash=content, rollout__isnull=True, recorded_by__isnull=False
    )
    if (present := accepted.order_by("pk").first()) is not None:
        return present, False
    exception = RolloutException.objects.create(
        release=release, ci=ci, kind=kind, reason=reason, content_hash=content, recorded_by=actor, created_at=now
    )
    return exception, True
