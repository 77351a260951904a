"""Stored files that are not what they were: found when they are first served, or by a check of all.

A version with such a file is offered to nobody any more and people are told. It comes back when the right file is
stored again and a second person has every file compared.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext as _

from accounts.models import User
from notifications.kinds import Kind
from notifications.mail import language_of
from notifications.services import notify
from software.models import Artifact, Version
from software.services import MANAGE
from software.storage import measure, stored_size
from tickets.exceptions import ConditionRefused, InvalidInput, SeparationOfDuties, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.links import page_of_object

log = logging.getLogger(__name__)

# A check that has not ended by then was given up; reading the largest file takes less.
CHECK_LEASE = timedelta(minutes=5)
# So short a file is rather read twice than somebody sent away meanwhile; bytes.
SHORT = 65536


class Check(Enum):
    """Whether a file may be served."""

    GOOD = "good"
    BUSY = "busy"  # somebody is reading it just now
    BAD = "bad"  # its version is quarantined


def check_before_serving(artifact: Artifact, *, now: datetime) -> Check:
    """Compares the stored file with what was registered: its size each time, its content when it is first served.

    What differs or cannot be read puts its version, and every other one with the same content, into quarantine.
    """
    if stored_size(artifact) != artifact.size:
        _quarantine(artifact, now=now)
        return Check.BAD
    if artifact.checked_at is not None:
        return Check.GOOD
    if artifact.size <= SHORT:
        return _compare(artifact, now=now)
    free = Q(check_begun_at__isnull=True) | Q(check_begun_at__lte=now - CHECK_LEASE)
    unchecked = Artifact.objects.filter(pk=artifact.pk, checked_at__isnull=True)
    if not unchecked.filter(free).update(check_begun_at=now):
        return Check.BUSY if unchecked.exists() else Check.GOOD
    return _compare(artifact, now=now)


def _compare(artifact: Artifact, *, now: datetime) -> Check:
    try:
        is_good = measure(artifact) == (artifact.size, artifact.sha256)
    except OSError as error:
        log.error("artifact %s cannot be read: %s", artifact.pk, error)
        is_good = False
    if not is_good:
        _quarantine(artifact, now=now)
        return Check.BAD
    Artifact.objects.filter(pk=artifact.pk).update(checked_at=now, check_begun_at=None)
    artifact.checked_at = now
    return Check.GOOD


def check_all_files(*, now: datetime) -> Iterator[str]:
    """Reads the files of every ready version; those that differ are quarantined and named."""
    ready = Artifact.objects.filter(version__state=Version.State.READY).select_related("version__product")
    for artifact in ready.order_by("pk").iterator(100):
        if _compare(artifact, now=now) is Check.BAD:
            yield _("%(version)s: %(file)s is not what was stored") % {"version": artifact.version, "file": artifact}


def _quarantine(artifact: Artifact, *, now: datetime) -> None:
    reason = _("The stored file %s is not what was uploaded.") % artifact.filename
    concerned = Version.objects.select_related("product__owner", "created_by").filter(
        artifacts__sha256=artifact.sha256, state=Version.State.READY
    )
    with transaction.atomic():
        Artifact.objects.filter(sha256=artifact.sha256).update(checked_at=None, check_begun_at=None)
        for version in list(concerned.distinct()):
            ready = Version.objects.filter(pk=version.pk, state=Version.State.READY)
            if ready.update(state=Version.State.QUARANTINED, state_reason=reason[:300]):
                log.error("%s is quarantined: %s", version, reason)
                _tell(version, reason, now)


def _tell(version: Version, reason: str, now: datetime) -> None:
    """The owner, the author, and everybody who may change the library."""
    people = {user.pk: user for user in User.objects.with_perm(MANAGE, backend=_MODEL_BACKEND) if user.is_active}
    for user in (version.product.owner, version.created_by):
        if user is not None:
            people[user.pk] = user
    for person in people.values():
        with translation.override(language_of(person)):
            notify(
                event=f"version:{version.pk}:quarantined:{now.isoformat()}",
                recipient=person,
                thread=str(version),
                subject=_("quarantined, offered to nobody"),
                text=_(
                    "%(reason)s %(version)s is offered to nobody until the right file is stored again and somebody "
                    "else has brought it back."
                )
                % {"reason": reason, "version": version},
                path=page_of_object(version.product),
                now=now,
                kind=Kind.OPERATIONS,
            )


_MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def restore_version(version: Version, *, actor: Any, now: datetime, reason: str = "") -> None:
    """quarantined → ready, after every file was read and compared, by somebody who stored none of them.

    Refuses with `ConditionRefused` while a file differs, naming it.
    """
    check_permission(actor, MANAGE, _("bring a version back"))
    if not reason.strip():
        raise InvalidInput(_("Say what was wrong and who mended it."), field="reason")
    version.refresh_from_db(fields=["state"])
    if version.state != Version.State.QUARANTINED:
        raise TransitionRefused(_("%(version)s is not quarantined.") % {"version": version})
    _check_second_person(version, actor)
    artifacts = list(version.artifacts.order_by("pk"))
    for artifact in artifacts:
        try:
            is_good = measure(artifact) == (artifact.size, artifact.sha256)
        except OSError:
            is_good = False
        if not is_good:
            text = _("%(file)s is still not what was uploaded. Store the right file again first.")
            raise ConditionRefused(text % {"file": artifact}, code="hash_mismatch")
    with transaction.atomic():
        Artifact.objects.filter(pk__in=[a.pk for a in artifacts]).update(checked_at=now, check_begun_at=None)
        quarantined = Version.objects.filter(pk=version.pk, state=Version.State.QUARANTINED)
        quarantined.update(state=Version.State.READY, state_reason="")
    version.refresh_from_db(fields=["state", "state_reason"])


def _check_second_person(version: Version, actor: Any) -> None:
    if actor is None:
        return
    if actor.is_service_account:
        raise SeparationOfDuties(_("A service account brings no version back."))
    taking_part = {version.created_by_id}
    for pair in version.artifacts.values_list("uploaded_by", "repaired_by"):
        taking_part.update(pair)
    if actor.pk in taking_part:
        raise SeparationOfDuties(_("You made this version or stored one of its files; somebody else must look."))
