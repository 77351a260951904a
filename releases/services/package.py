"""The package: which RFCs, which versions, to which CIs, by which plan."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts import language
from accounts.language import portal_language
from accounts.models import User
from changes.models import Change
from cmdb.models import ConfigurationItem
from distribution.models import WayBack
from releases.models import LeftOutChange, PackageItem, Release, RolloutException
from releases.services.approval import check_second_person, renew_request
from releases.services.content import check_files, check_ready, lock_release, package_hash, release_hash
from releases.services.exceptions import accept
from releases.services.generations import keep_generation
from releases.services.testing import void_current_run
from releases.targets import target_cis, with_digests
from releases.wave_plan import with_wave_digests
from software.models import Version
from tickets.activities import Activity, Process, check_activity
from tickets.comments import comment_ticket
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.models import Attachment, EntryKind, TimelineEntry
from tickets.services import create_ticket, edit_fields, move_ticket, record

EDITABLE = (
    Release.State.DRAFT,
    Release.State.PLANNED,
    Release.State.BUILT,
    Release.State.TESTING,
    Release.State.TEST_FAILED,
    Release.State.READY,
)
TESTED = (Release.State.TESTING, Release.State.TEST_FAILED, Release.State.READY)


@transaction.atomic
def draft_release(
    *,
    actor: User,
    now: datetime,
    title: str,
    description: str = "",
    release_type: str = Release.Type.MINOR,
    activity: str = Activity.REPAIR,
    changes: Iterable[Change] = (),
    versions: Iterable[Version] = (),
    ways_back: Mapping[str, str] | None = None,
    policy: Mapping[str, Any] | None = None,
    targets: Mapping[str, Any] | None = None,
    requester: User | None = None,
    impact: str = "medium",
    urgency: str = "medium",
) -> Release:
    """Writes a new release in draft. Needs the right to build; refuses RFCs that are not authorised.

    `ways_back` says for products (by short name) how their version is left again; unnamed ones are reinstalled.
    """
    check_permission(actor, "releases.build_release", _("write a release"))
    check_activity(Process.RELEASE, activity)
    release = create_ticket(
        Release,
        actor=actor,
        now=now,
        title=title,
        description=description,
        release_type=release_type,
        activity=activity,
        policy=with_wave_digests(policy or {}, actor),
        targets=with_digests(targets or {}, actor),
        last_editor=actor,
        impact=impact,
        urgency=urgency,
        **({"requester": requester} if requester else {}),
    )
    _set_changes(release, list(changes))
    _set_versions(release, list(versions))
    if ways_back is not None:
        _set_ways_back(release, ways_back)
    keep_generation(release, actor=actor, now=now)
    return release


def edit_release(
    release: Release,
    *,
    actor: User,
    now: datetime,
    expected_version: int | None = None,
    changes: Iterable[Change] | None = None,
    versions: Iterable[Version] | None = None,
    ways_back: Mapping[str, str] | None = None,
    policy: Mapping[str, Any] | None = None,
    targets: Mapping[str, Any] | None = None,
    left_out_reason: str = "",
    **fields: Any,
) -> None:
    """Edits a release up to `ready`. Another package or plan voids the test and the approval that stood on the old one.

    Once planned, it keeps at least one RFC and one version, and `left_out_reason` says why planned changes to its
    products are not, or no longer, in it. Refuses from `deploying` on, and when somebody else edited it since
    `expected_version`.
    """
    check_permission(actor, "releases.build_release", _("edit a release"))
    if unknown := set(fields) - {
        "title",
        "description",
        "release_type",
        "impact",
        "urgency",
        "assignee",
        "team",
    }:
        raise InvalidInput(_("These fields cannot be edited: %(names)s.") % {"names": ", ".join(sorted(unknown))})
    with transaction.atomic():
        release = lock_release(release)
        if release.state not in EDITABLE:
            raise TransitionRefused(
                _("%(number)s is “%(state)s”; a release can be edited until its rollout starts.")
                % {"number": release.number, "state": release.get_state_display()}
            )
        before_package, before_plan = package_hash(release), release_hash(release)
        known = set(left_out_changes(release).values_list("pk", flat=True))
        if policy is not None:
            fields["policy"] = with_wave_digests(policy, actor)
        if targets is not None:
            fields["targets"] = with_digests(targets, actor)
        if not release.generations.exists():
            keep_generation(release, actor=release.last_editor, now=release.updated_at)
        edit_fields(release, now=now, expected_version=expected_version, reader=actor, last_editor=actor, **fields)
        keep_generation(release, actor=actor, now=now)
        if changes is not None:
            _set_changes(release, list(changes))
        if versions is not None:
            _set_versions(release, list(versions))
        if ways_back is not None:
            _set_ways_back(release, ways_back)
        if release.state != Release.State.DRAFT:
            _keep_planned(release, known, left_out_reason.strip())
        record(release, kind=EntryKind.SYSTEM, actor=actor, now=now, text=language.gettext("Edited."), public=False)
        if package_hash(release) != before_package:
            _package_changed(release, actor=actor, now=now)
        elif release_hash(release) != before_plan and release.approvals.exists():
            record(
                release,
                kind=EntryKind.SYSTEM,
                actor=None,
                now=now,
                text=language.gettext("The plan changed: approvals are void."),
            )
        renew_request(release, now=now)


def _keep_planned(release: Release, known: set[int], reason: str) -> None:
    """What planning asked for holds after an edit, too; `known` were out of the package before it."""
    if not release.changes.exists() or not release.items.exists():
        raise ConditionRefused(_("A planned release has at least one RFC and one version. Cancel it if it has none."))
    release.left_out.filter(change__in=release.changes.values("pk")).delete()
    missing = list(left_out_changes(release).exclude(pk__in=known))
    if missing and not reason:
        raise ConditionRefused(
            _("A package contains all planned changes. Keep these in, or say why they are left out: %(numbers)s.")
            % {"numbers": ", ".join(change.number for change in missing)},
            code="left_out_reason_missing",
            detail={"changes": [change.number for change in missing]},
        )
    for change in missing:
        LeftOutChange.objects.update_or_create(release=release, change=change, defaults={"reason": reason})


def _package_changed(release: Release, *, actor: User, now: datetime) -> None:
    void_current_run(release, now=now, reason=language.gettext("The package was edited."))
    if release.state in TESTED:
        text = language.gettext("The package was edited: the test and every approval are void.")
        move_ticket(release, "void_test", actor=actor, now=now, text=text)


def _set_changes(release: Release, changes: list[Change]) -> None:
    allowed = set(Change.objects.releasable().filter(pk__in=[c.pk for c in changes]).values_list("pk", flat=True))
    kept = set(release.changes.values_list("pk", flat=True))
    elsewhere = Release.objects.open().exclude(pk=release.pk)
    for change in changes:
        other = elsewhere.filter(changes=change).first() if change.pk not in kept else None
        if other is not None:
            raise InvalidInput(
                _("%(number)s is in %(other)s already; an RFC is in one open release at a time.")
                % {"number": change.number, "other": other.number},
                field="changes",
            )
        if change.pk not in allowed | kept:
            raise InvalidInput(
                _("%(number)s is “%(state)s”; only authorised or scheduled RFCs enter a release.")
                % {"number": change.number, "state": change.get_state_display()},
                field="changes",
            )
    begun = release.changes.filter(state=Change.State.IMPLEMENTING).exclude(pk__in=[c.pk for c in changes])
    if names := [change.number for change in begun]:
        raise ConditionRefused(
            _("An aborted rollout has installed %(changes)s on some CIs. Roll that back before you take it out.")
            % {"changes": ", ".join(names)}
        )
    release.changes.set(changes)


def _set_versions(release: Release, versions: list[Version]) -> None:
    products = [version.product_id for version in versions]
    if len(set(products)) != len(products):
        raise InvalidInput(_("A package holds one version of each product."), field="versions")
    wanted = [(version.product_id, version.pk, position) for position, version in enumerate(versions, start=1)]
    if wanted == list(release.items.order_by("position").values_list("product_id", "version_id", "position")):
        return
    # How a version is left again was said of this very version.
    said = {item.version_id: item.way_back for item in release.items.all()}
    release.items.all().delete()
    PackageItem.objects.bulk_create(
        PackageItem(
            release=release,
            product_id=product,
            version_id=version,
            position=position,
            way_back=said.get(version, WayBack.REINSTALL),
        )
        for product, version, position in wanted
    )


def _set_ways_back(release: Release, ways_back: Mapping[str, str]) -> None:
    items = {item.product.slug: item for item in release.items.select_related("product")}
    if unknown := sorted(set(ways_back) - set(items)):
        raise InvalidInput(_("Not in the package: %s.") % ", ".join(unknown), field="ways_back")
    for slug, item in items.items():
        way = ways_back.get(slug, WayBack.REINSTALL)
        if way not in WayBack.values:
            raise InvalidInput(
                _("A way back is one of %s.") % ", ".join(WayBack.values), field="ways_back", code="way_back_unknown"
            )
        if item.way_back != way:
            item.way_back = way
            item.save(update_fields=["way_back"])


def left_out_changes(release: Release) -> QuerySet[Change]:
    """Authorised RFCs for the package's products that are in neither this nor another open release."""
    products = release.items.values("product")
    taken = Release.changes.through.objects.filter(release__in=Release.objects.open().exclude(pk=release.pk)).values(
        "change_id"
    )
    return (
        Change.objects.releasable()
        .filter(products__in=products)
        .exclude(pk__in=release.changes.values("pk"))
        .exclude(pk__in=taken)
        .distinct()
        .order_by("pk")
    )


def plan_release(release: Release, *, actor: User, now: datetime, left_out: Mapping[int, str] | None = None) -> None:
    """draft → planned: RFCs, versions and targets are there; every RFC that is left out has its reason.

    `left_out` maps the primary keys of `left_out_changes` to reasons. Refuses with `ConditionRefused` and names what
    is missing.
    """
    reasons = {int(pk): str(text).strip() for pk, text in (left_out or {}).items()}
    with transaction.atomic():
        release = lock_release(release)
        if not release.changes.exists():
            raise ConditionRefused(_("Put at least one authorised RFC into the release first."))
        if not release.items.exists():
            raise ConditionRefused(_("Put at least one version into the package first."))
        if not target_cis(release).exists():
            raise ConditionRefused(_("No CI matches: none in operation runs an older version of these products."))
        missing = [change for change in left_out_changes(release) if not reasons.get(change.pk)]
        if missing:
            raise ConditionRefused(
                _("A package contains all planned changes. Take these in, or say why they are left out: %(numbers)s.")
                % {"numbers": ", ".join(change.number for change in missing)},
                code="left_out_reason_missing",
                detail={"changes": [change.number for change in missing]},
            )
        release.left_out.all().delete()
        LeftOutChange.objects.bulk_create(
            LeftOutChange(release=release, change=change, reason=reasons[change.pk])
            for change in left_out_changes(release)
        )
        move_ticket(release, "plan", actor=actor, now=now)


def build_release(release: Release, *, actor: User, now: datetime) -> None:
    """planned → built: every version is ready in the media library, with its files."""
    with transaction.atomic():
        release = lock_release(release)
        check_ready(release)
        check_files(release)
        move_ticket(release, "build", actor=actor, now=now)


def cancel_release(release: Release, *, actor: User, now: datetime, reason: str) -> None:
    """Gives the release up before its rollout; its RFCs are free for another one."""
    if not reason.strip():
        raise InvalidInput(_("Say why."), field="reason")
    with transaction.atomic():
        release = lock_release(release)
        begun = release.changes.filter(state=Change.State.IMPLEMENTING)
        if names := [change.number for change in begun]:
            raise ConditionRefused(
                _("An aborted rollout has installed it on some CIs (%(changes)s). Roll that back, or start again.")
                % {"changes": ", ".join(names)}
            )
        move_ticket(release, "cancel", actor=actor, now=now, text=reason)
        renew_request(release, now=now)
        void_current_run(release, now=now, reason=language.gettext("The release was cancelled."))


def close_release(release: Release, *, actor: User, now: datetime) -> None:
    """Closes a completed or rolled back release."""
    move_ticket(release, "close", actor=actor, now=now)


def comment_release(
    release: Release, *, actor: User, now: datetime, text: str, public: bool = True, files: Sequence[Attachment] = ()
) -> TimelineEntry:
    """Writes a comment, or with `public=False` an internal note. Those concerned are told of a comment."""
    return comment_ticket(release, actor=actor, now=now, text=text, public=public, files=files)


def record_exception(
    release: Release,
    *,
    kind: str,
    actor: User,
    now: datetime,
    reason: str,
    ci: ConfigurationItem | None = None,
) -> RolloutException:
    """Records that a risk is accepted: a CI without a way back, or (no `ci`) a package that says that it has none.

    By somebody who did not write the release. What was accepted for this content already stays as it is.
    """
    check_permission(actor, "releases.record_exception", _("record an exception"))
    check_second_person(release, actor)
    if not reason.strip():
        raise InvalidInput(_("Say why the risk is accepted."), field="reason")
    if kind != RolloutException.Kind.NO_WAY_BACK:
        # The engine lists failed rollbacks, and skipping the test gate is a verb of its own.
        raise InvalidInput(
            _("Only a missing way back is recorded here. To skip the test use “skip_test”."), field="kind"
        )
    if ci is None and not release.items.filter(way_back=WayBack.IMPOSSIBLE).exists():
        raise InvalidInput(_("Name the CI that has no way back: the package itself has one."), field="ci")
    with transaction.atomic():
        release = lock_release(release)
        exception, is_new = accept(release, kind, actor=actor, now=now, reason=reason, ci=ci)
        if is_new:
            with portal_language():
                text = _("Exception “%(kind)s”: %(reason)s") % {
                    "kind": exception.get_kind_display(),
                    "reason": reason,
                }
            record(release, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text, public=False)
    return exception
