"""When change management lets a rollout go on: the planned start and end of its RFCs."""

from datetime import datetime

from django.db.models import Max, Min
from django.utils.translation import gettext as _

from releases.models import Release, Rollout, RolloutEvent
from releases.services.rollouts import pause


def planned_time(release: Release) -> tuple[datetime | None, datetime | None]:
    """The latest planned start and the earliest planned end of its RFCs."""
    found = release.changes.aggregate(start=Max("planned_start"), end=Min("planned_end"))
    return found["start"], found["end"]


def pause_after_planned_end(rollout: Rollout, now: datetime) -> bool:
    """A rollout that runs past the planned end lets in-flight CIs finish and pauses. Resuming accepts the overrun."""
    end = planned_time(rollout.release)[1]
    if end is None or now < end or rollout.release.release_type == Release.Type.EMERGENCY:
        return False
    resumed = rollout.events.filter(kind=RolloutEvent.Kind.RESUMED, at__gte=end)
    # Who started it does not accept the overrun himself by a pause and a resume of his own.
    if resumed.exclude(actor=rollout.started_by_id).exists():
        return False
    reason = _("The planned end of its RFCs has passed: %s") % end.isoformat(timespec="minutes")
    pause(rollout, kind=Rollout.PauseKind.WINDOW, reason=reason, actor=None, now=now)
    return True
