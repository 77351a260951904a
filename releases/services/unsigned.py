"""A rollout under way whose package is not signed any more: nothing of it is offered, and its people hear of it.

A key was revoked, or a manifest or the key set expired. The rows of the media library and the rollout's events are all
there is to know, so a tick may be missed, repeated or interrupted.
"""

from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from django.utils.translation import gettext as _

from notifications import kinds
from releases.models import Rollout, RolloutEvent
from releases.services.log import log
from tickets.notices import tell

Kind = RolloutEvent.Kind

# Rollouts with something left to offer, with the versions of their packages that no manifest covers now, and whether
# that was the last thing that was said about it. Only those where something has to be said.
_TO_TELL = """
SELECT r.id, missing.versions
FROM releases_rollout r
CROSS JOIN LATERAL (
    SELECT array_agg(v.label_of ORDER BY v.position) AS versions FROM (
        SELECT i.position, p.name || ' ' || v.label AS label_of
        FROM releases_packageitem i JOIN software_version v ON v.id = i.version_id
        JOIN software_product p ON p.id = v.product_id
        WHERE i.release_id = r.release_id AND NOT EXISTS (
            SELECT 1 FROM software_releasemanifest m WHERE m.version_id = v.id AND m.good_until > clock_timestamp())
    ) v
) missing
CROSS JOIN LATERAL (
    SELECT coalesce((
        SELECT e.kind FROM releases_rolloutevent e WHERE e.rollout_id = r.id AND e.kind IN ('unsigned', 'signed')
        ORDER BY e.id DESC LIMIT 1), 'signed') AS kind
) said
WHERE r.settled_at IS NULL AND r.state IN ('preparing', 'running', 'paused')
    AND (missing.versions IS NULL) = (said.kind = 'unsigned')
    AND EXISTS (
        SELECT 1 FROM releases_wave w JOIN distribution_deployment d ON d.batch_id = w.batch_id
        WHERE w.rollout_id = r.id AND w.kind = 'forward' AND d.state = 'queued')
ORDER BY r.id
"""


def tell_unsigned(*, now: datetime) -> int:
    """Writes on each rollout that its package lost its signatures, or has them again, and tells its people; how many
    rollouts. Once for each time; nothing while signatures are not required.
    """
    if not settings.REQUIRE_SIGNATURES:
        return 0
    told = 0
    for key, versions in _to_tell():
        with transaction.atomic():
            rows = Rollout.objects.select_for_update(skip_locked=True, of=("self",)).select_related("release")
            rollout = rows.filter(pk=key).first()
            # Somebody who held it a moment ago may have said it.
            if rollout is not None and (key, versions) in _to_tell():
                _say(rollout, versions, now)
                told += 1
    return told


def _to_tell() -> list[tuple[int, list[str] | None]]:
    with connection.cursor() as cursor:
        cursor.execute(_TO_TELL)
        return cursor.fetchall()


def _say(rollout: Rollout, versions: list[str] | None, now: datetime) -> None:
    if versions is None:
        log(rollout, Kind.SIGNED, now=now, text=_("It is signed again and goes on."))
        return
    text = _(
        "No key that counts signs %(versions)s any more: revoked or expired. Nothing more is offered until it is "
        "signed again, or abort the rollout."
    ) % {"versions": ", ".join(versions)}
    log(rollout, Kind.UNSIGNED, now=now, text=text)
    release = rollout.release
    tell(
        release,
        event=f"rollout:{rollout.pk}:unsigned:{rollout.events.filter(kind=Kind.UNSIGNED).count()}",
        recipients=[release.created_by, release.requester, release.assignee, rollout.started_by],
        actor=None,
        now=now,
        headline=lambda: _("%(rollout)s stands still: no valid signature") % {"rollout": rollout.number},
        text=text,
        kind=kinds.Kind.ROLLOUT,
    )
