"""How much a test proves: which level of evidence a type of release needs, and who accepts less."""

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from releases.models import Release, RolloutException, TestPolicy, TestRun
from releases.services.approval import check_second_person
from releases.services.content import lock_release, release_hash
from releases.services.exceptions import accept
from test_environments.models import TestEnvironment
from tickets.exceptions import ConditionRefused, InvalidInput
from tickets.lifecycle import check_permission
from tickets.models import EntryKind
from tickets.services import record

# Least first.
_LEVELS = ("", *TestEnvironment.Evidence.values)


def evidence_needed_for(release_type: str) -> str:
    """The level that a type of release needs: from the test policies, else the least."""
    policy = TestPolicy.objects.filter(release_type=release_type).first()
    return policy.evidence if policy else TestEnvironment.Evidence.FILE_COPY


def lacks_evidence(run: TestRun) -> bool:
    """Whether its environment proves less than the release needs, and nobody has accepted that for this content."""
    if _LEVELS.index(run.environment.evidence) >= _LEVELS.index(run.evidence_needed):
        return False
    accepted = run.release.exceptions.filter(kind=RolloutException.Kind.WEAKER_EVIDENCE)
    return not accepted.filter(content_hash=release_hash(run.release)).exists()


def accept_evidence(release: Release, *, actor: User, now: datetime, reason: str) -> None:
    """Accepts that the present test proves less than this type of release needs: a recorded exception.

    Only by somebody who did not write the release. Refuses without a test under way, and where nothing is lacking.
    """
    check_permission(actor, "releases.record_exception", _("accept weaker evidence"))
    if not reason.strip():
        raise InvalidInput(_("Say why less is enough."), field="reason")
    with transaction.atomic():
        release = lock_release(release)
        check_second_person(release, actor)
        unfinished = [TestRun.State.PREPARING, TestRun.State.APPLYING, TestRun.State.SOAKING]
        run = release.test_runs.filter(state__in=unfinished).select_related("environment").first()
        if run is None or not lacks_evidence(run):
            raise ConditionRefused(
                _("No test is under way that proves less than %(release)s needs.") % {"release": release}
            )
        accept(release, RolloutException.Kind.WEAKER_EVIDENCE, actor=actor, now=now, reason=reason)
        text = language.gettext("Weaker evidence accepted: %s") % reason
        record(release, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text)
