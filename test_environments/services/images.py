"""What people do with golden images; the capture itself is the test host's."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import language
from cmdb.models import ConfigurationItem, InstalledVersion
from test_environments.models import CopySource, DiskReception, GoldenImage
from test_environments.services.log import log
from test_environments.services.sources import check_source, needs_approval
from tickets.asking import ask_to_decide, decided, people_with
from tickets.exceptions import ConditionRefused, InvalidInput, SeparationOfDuties, TransitionRefused
from tickets.lifecycle import check_move, check_permission, move

State = GoldenImage.State
APPROVE = "test_environments.approve_copies"
# Nobody works on the row.
FREE: dict[str, Any] = {
    "lease": None, "leased_until": None, "task": "", "task_started_at": None, "task_deadline": None,
}  # fmt: skip


def request_image(
    source: ConfigurationItem,
    *,
    actor: Any,
    now: datetime,
    reason: str = "",
    consistency: str = GoldenImage.Consistency.COLD,
    expected_sha256: str = "",
    conversion: str = GoldenImage.Conversion.KEEP,
    is_kept: bool = True,
    received: DiskReception | None = None,
) -> GoldenImage:
    """Asks for a golden image of `source`; the test host takes it once it is approved.

    Software files that are at most internal stand under the approval of the administrator who released them. `received`
    is the disk of it that arrived. `conversion`: of the disk of another machine. Refuses: without the right; a source
    that cannot be copied, or whose disk has to be received first.
    """
    check_permission(actor, "test_environments.manage_environments", _("capture a production CI"))
    found = check_source(source)
    limit = GoldenImage._meta.get_field("reason").max_length or 0
    if len(reason) > limit:
        raise InvalidInput(_("The reason has at most %(limit)d characters.") % {"limit": limit}, field="reason")
    if received is None and found.method in CopySource.RECEIVED and not found.folder:
        raise ConditionRefused(
            _("The disk of %(ci)s has to arrive first. Order it under “Disks”; its image is then asked for by itself.")
            % {"ci": source}
        )
    check_conversion(found, conversion)
    asks = received is not None or needs_approval(found)
    if asks and not reason.strip() and actor is not None:
        raise InvalidInput(_("Say what the copy is needed for: whoever approves it reads it."), field="reason")
    with transaction.atomic():
        image = GoldenImage.objects.create(
            source=source,
            driver=found.driver,
            kind=_kind(found),
            method=found.method,
            location=str(received.uuid) if received else found.folder,
            consistency=_consistency(found, consistency),
            classification=found.classification,
            expected_sha256=expected_sha256,
            conversion=conversion,
            reason=reason,
            is_kept=is_kept,
            state=State.REQUESTED if asks else State.APPROVED,
            approval="" if asks else GoldenImage.Approval.STANDING,
            retain_until=now + timedelta(days=settings.TEST_ENVIRONMENT_RETAIN_DAYS),
            requested_by=actor,
            created_at=now,
            updated_at=now,
        )
        text = (
            language.gettext("Asked for; waits for an approval.")
            if asks
            else language.gettext("Asked for; the source is released for copies.")
        )
        log(image, text, now=now, actor=actor)
        if asks:
            deciders = [person for person in people_with(APPROVE) if person != actor]
            title = source.name
            ask_to_decide(image, title=title, deciders=deciders, now=now, why=lambda: reason)
    return image


def check_conversion(source: CopySource, conversion: str) -> None:
    """Refuses to adapt what does not bring the disk of another machine."""
    if conversion != GoldenImage.Conversion.KEEP and source.method not in CopySource.FOREIGN:
        text = _("Only the disk of another machine can be adapted, not: %(method)s.")
        raise InvalidInput(text % {"method": source.get_method_display()}, field="conversion")


def _kind(source: CopySource) -> str:
    """A disk that is received is never files, whatever the administrator left unchanged."""
    if source.kind != GoldenImage.Kind.FILES or source.method not in CopySource.RECEIVED:
        return source.kind
    is_medium = source.method == CopySource.Method.MEDIUM
    return GoldenImage.Kind.PHYSICAL if is_medium else GoldenImage.Kind.VM


def _consistency(source: CopySource, wanted: str) -> str:
    if source.method == CopySource.Method.DOMAIN and wanted == GoldenImage.Consistency.COLD:
        return GoldenImage.Consistency.FROZEN
    return wanted


def approve_image(image: GoldenImage, *, actor: Any, now: datetime) -> None:
    """Allows this one copy of production. Refuses who asked for it, whatever his rights, and programs."""
    check_move(image, "approve", actor=actor)
    if actor is None or actor.is_service_account:
        raise SeparationOfDuties(_("A service account never approves."))
    if actor.pk == image.requested_by_id:
        raise SeparationOfDuties(_("Who asked for a copy does not approve it. Ask somebody else with the right."))
    update = {"approval": GoldenImage.Approval.PERSON, "approved_by": actor, "approved_at": now}
    with transaction.atomic():
        move(image, "approve", actor=actor, now=now, update=update)
        log(image, language.gettext("Approved."), now=now, actor=actor)
        decided(image, now=now)


def retry_image(image: GoldenImage, *, actor: Any, now: datetime) -> None:
    """Captures again after an error; a failed deletion goes on deleting."""
    if image.error_from == State.DELETING:
        delete_image(image, actor=actor, now=now)
        return
    update = {**FREE, "error_from": "", "last_error": ""}
    with transaction.atomic():
        move(image, "retry", actor=actor, now=now, update=update)
        log(image, language.gettext("Is tried again."), now=now, actor=actor)


def delete_image(image: GoldenImage, *, actor: Any, now: datetime) -> None:
    """Deletes what was captured; the record stays. Refuses while an environment of it is not destroyed."""
    check_move(image, "delete_files", actor=actor)
    image.refresh_from_db()
    if image.references:
        names = ", ".join(str(e) for e in image.environments.unfinished().order_by("pk")[:5])
        raise ConditionRefused(
            ngettext(
                "%(image)s is used by %(n)d environment (%(names)s). Destroy it first.",
                "%(image)s is used by %(n)d environments (%(names)s). Destroy them first.",
                image.references,
            )
            % {"image": image, "n": image.references, "names": names}
        )
    with transaction.atomic():
        # Whoever takes a reference meanwhile changes the row: then this finds none.
        rows = GoldenImage.objects.select_for_update().filter(pk=image.pk, references=0)
        if not rows.exists():
            raise TransitionRefused(_("%(image)s was taken into use meanwhile.") % {"image": image})
        move(image, "delete_files", actor=actor, now=now, update=FREE)
        log(image, language.gettext("Is being deleted."), now=now, actor=actor)
        decided(image, now=now)


def take_reference(image: GoldenImage) -> None:
    """Counts one more clone. Refuses an image that is not usable (any more)."""
    if not GoldenImage.objects.usable().filter(pk=image.pk).update(references=F("references") + 1):
        raise TransitionRefused(
            _("%(image)s is “%(state)s”; choose another image.") % {"image": image, "state": image.get_state_display()}
        )


def drop_reference(image: GoldenImage, *, now: datetime) -> None:
    """Counts one clone less; an image that nobody wanted to keep goes with its last one."""
    GoldenImage.objects.filter(pk=image.pk, references__gt=0).update(references=F("references") - 1)
    image.refresh_from_db()
    if not image.is_kept and not image.references and image.state not in {State.DELETING, State.DELETED}:
        delete_image(image, actor=None, now=now)


def fail_image(image: GoldenImage, *, now: datetime, text: str) -> None:
    """Writes down which step failed and why."""
    update = {**FREE, "error_from": image.state, "last_error": text[:4000]}
    with transaction.atomic():
        move(image, "fail", actor=None, now=now, update=update)
        log(image, text, now=now, is_problem=True)


def snapshot_of(source: ConfigurationItem) -> dict[str, Any]:
    """The CI as the CMDB has it now: what the image is later compared with."""
    installed = InstalledVersion.objects.filter(ci=source, valid_to__isnull=True).select_related("product")
    return {
        "number": source.number,
        "name": source.name,
        "class": source.ci_class.name,
        "lifecycle": source.lifecycle,
        "agent_id": source.agent_id,
        "attributes": source.attributes,
        "installed": {row.product.slug: row.label for row in installed.order_by("product__slug")},
    }


def expire_images(*, now: datetime) -> int:
    """Deletes unused images whose time is over. Returns how many."""
    over = GoldenImage.objects.filter(
        retain_until__lt=now, references=0, state__in=[State.REQUESTED, State.READY, State.ERROR]
    )
    expired = 0
    for image in over.order_by("pk"):
        try:
            delete_image(image, actor=None, now=now)
            expired += 1
        except (ConditionRefused, TransitionRefused):
            continue
    return expired
