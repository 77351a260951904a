"""The one approval that covers release and rollout; by somebody who took no part in either."""

from datetime import datetime

from django.db import transaction
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.language import portal_language
from accounts.models import User
from releases.models import Release, ReleaseApproval
from releases.services.content import lock_release, release_hash
from releases.services.signatures import check_signed
from releases.targets import check_groups, target_cis
from releases.wave_plan import check_wave_groups
from tickets.asking import ask_to_decide, decided, people_with
from tickets.exceptions import InvalidInput, PermissionRefused, SeparationOfDuties, TransitionRefused
from tickets.models import Decision, EntryKind
from tickets.services import record


def check_second_person(release: Release, actor: User) -> None:
    """Refuses who wrote, requested or ever edited the release; superusers are not exempt, services never decide."""
    if actor.is_service_account:
        raise SeparationOfDuties(_("A service account never approves."))
    taking_part = {release.created_by_id, release.requester_id, release.last_editor_id}
    # Somebody else's later edit does not make an editor a second person: the history knows every one of them.
    if actor.pk in taking_part or release.history.filter(last_editor=actor).exists():  # type: ignore[attr-defined]
        raise SeparationOfDuties(
            _("You wrote, requested or edited %(number)s; somebody else must decide.") % {"number": release.number}
        )


def has_right_to_approve(release: Release, actor: User) -> bool:
    """A release manager; for an emergency release also an emergency approver."""
    if actor.has_perm("releases.approve_release"):
        return True
    emergency = release.release_type == Release.Type.EMERGENCY
    return emergency and actor.has_perm("changes.approve_emergency_change")


def valid_approval(release: Release) -> ReleaseApproval | None:
    """The latest decision on the present content, if it is an approval."""
    latest = release.approvals.filter(content_hash=release_hash(release)).order_by("created_at", "pk").last()
    return latest if latest and latest.decision == Decision.APPROVED else None


def has_valid_approval(release: Release) -> bool:
    """Whether the present content is approved."""
    return valid_approval(release) is not None


def renew_request(release: Release, *, now: datetime) -> None:
    """Tells those who may approve it while it is ready and nobody has decided on its present content; else withdraws
    that.
    """
    is_decided = release.approvals.filter(content_hash=release_hash(release)).exists()
    if release.state != Release.State.READY or is_decided:
        decided(release, now=now)
        return
    is_emergency = release.release_type == Release.Type.EMERGENCY
    people = people_with("releases.approve_release", *(["changes.approve_emergency_change"] if is_emergency else []))
    part = {release.created_by_id, release.requester_id, release.last_editor_id}
    part |= set(release.history.values_list("last_editor", flat=True))  # type: ignore[attr-defined]
    deciders = [person for person in people if person.pk not in part]
    ask_to_decide(release, title=release.title, deciders=deciders, now=now)


def approve_release(
    release: Release, *, actor: User, now: datetime, comment: str = "", seen_hash: str = ""
) -> ReleaseApproval:
    """Approves the present content of a release that is ready. Refusals: right, separation of duties, state.

    `seen_hash` is the content that the approver had before him: if it is another one now, nothing is approved
    (`TransitionRefused`, code `edit_conflict`).
    """
    return _decide(release, actor=actor, now=now, decision=Decision.APPROVED, comment=comment, seen_hash=seen_hash)


def reject_release(release: Release, *, actor: User, now: datetime, comment: str) -> ReleaseApproval:
    """Rejects the present content, with the reason; an earlier approval of it no longer counts."""
    if not comment.strip():
        raise InvalidInput(_("Say why, so that the author can do better."), field="comment")
    return _decide(release, actor=actor, now=now, decision=Decision.REJECTED, comment=comment)


def _decide(
    release: Release, *, actor: User, now: datetime, decision: str, comment: str, seen_hash: str = ""
) -> ReleaseApproval:
    if not has_right_to_approve(release, actor):
        raise PermissionRefused(_("You may not approve releases. Ask a release manager."))
    with transaction.atomic():
        release = lock_release(release)
        check_second_person(release, actor)
        if release.state != Release.State.READY:
            raise TransitionRefused(
                _("%(number)s is “%(state)s”; it can be approved when its test has passed.")
                % {"number": release.number, "state": release.get_state_display()}
            )
        if decision == Decision.APPROVED:
            check_signed(release, now=now)
        content = release_hash(release)
        if seen_hash and seen_hash != content:
            raise TransitionRefused(
                _("%(number)s was edited meanwhile. Read the new version first.") % {"number": release.number},
                code="edit_conflict",
            )
        if decision == Decision.APPROVED:
            check_groups(release)
            check_wave_groups(release)
        approval = ReleaseApproval.objects.create(
            release=release,
            approver=actor,
            decision=decision,
            content_hash=content,
            comment=comment,
            target_count=target_cis(release).count(),
            created_at=now,
        )
        with portal_language():
            text = ngettext(
                "%(decision)s for %(count)d CI. %(comment)s",
                "%(decision)s for %(count)d CIs. %(comment)s",
                approval.target_count,
            ) % {
                "decision": capfirst(approval.get_decision_display()),
                "count": approval.target_count,
                "comment": comment,
            }
        record(release, kind=EntryKind.STATE, actor=actor, now=now, text=text.strip(), to_state=release.state)
        renew_request(release, now=now)
    return approval
