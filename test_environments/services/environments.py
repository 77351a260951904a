"""What people and the test gate do with test environments; the work on the hosts is the runner's."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import language
from cmdb.models import AgentToken, ConfigurationItem, InstalledVersion
from cmdb.services import register_ci, revoke_agent_token
from test_environments.models import EnvironmentSnapshot, GoldenImage, TestEnvironment
from test_environments.services.images import FREE, drop_reference, request_image, retry_image, take_reference
from test_environments.services.leases import first_leases, renew_by_use
from test_environments.services.log import log
from test_environments.services.shapes import check_versions, shape_of
from test_environments.services.sources import check_source
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_move, check_permission, move

State = TestEnvironment.State

# Others may have moved the row between our reading and our writing.
_TRIES = 5
AT_REST: dict[str, Any] = {"is_wanted_running": False, **FREE}


def request_environment(
    source: ConfigurationItem,
    *,
    actor: Any,
    now: datetime,
    purpose: str = "",
    versions: Mapping[str, str] | None = None,
    image: GoldenImage | None = None,
    **shape: Any,
) -> TestEnvironment:
    """Asks for a copy of `source`, which the test host makes. The copy's CI exists at once; it reports later.

    `image` is one of its golden images; without one a new one is taken, and deleted with this copy. `versions`
    (product's short name: label) makes the copy run other versions than the source runs, out of those in the image.
    `shape`: clone, network, allowed_endpoints, endpoints_reason, memory_mb, processors, disk_growth_mb. Refuses:
    without the right; a source that is a copy itself, retired, without an agent, or not released for copies; an image
    of another CI; endpoints that are production CIs, without a reason; a version that the image does not hold.
    """
    check_permission(actor, "test_environments.manage_environments", _("request a test environment"))
    check_source(source)
    if image is not None and image.source_id != source.pk:
        raise InvalidInput(_("%(image)s is of another CI.") % {"image": image}, field="image")
    with transaction.atomic():
        if image is None:
            image = request_image(
                source, actor=actor, now=now, reason=purpose or language.gettext("A copy for tests."), is_kept=False
            )
        take_reference(image)
        environment = TestEnvironment.objects.create(
            source=source,
            image=image,
            driver=image.driver,
            purpose=_purpose(purpose),
            versions=check_versions(image, versions or {}),
            requested_by=actor,
            created_at=now,
            updated_at=now,
            **shape_of(image, shape),
            **first_leases(now),
        )
        environment.copy = register_ci(
            actor=None,
            now=now,
            name=_with_suffix(source.name, f" ({environment.number})"),
            ci_class=source.ci_class,
            agent_id=_with_suffix(source.agent_id or "", f"-copy-{environment.pk}"),
            agent_profile=source.agent_profile,
            copy_of=source,
        )
        environment.save(update_fields=["copy"])
        log(environment, language.gettext("Asked for, of image %(image)s.") % {"image": image}, now=now, actor=actor)
        if environment.allowed_endpoints:
            text = language.gettext("May reach beside the portal: %(endpoints)s. %(reason)s") % {
                "endpoints": ", ".join(environment.allowed_endpoints), "reason": environment.endpoints_reason,
            }  # fmt: skip
            log(environment, text.strip(), now=now, actor=actor)
    return environment


def _purpose(text: str) -> str:
    limit = TestEnvironment._meta.get_field("purpose").max_length or 0
    if len(text) > limit:
        raise InvalidInput(_("The purpose has at most %(limit)d characters.") % {"limit": limit}, field="purpose")
    return text


def _with_suffix(text: str, suffix: str) -> str:
    """`text` cut so that it fits a CI's name or agent id together with `suffix`."""
    return text[: 128 - len(suffix)] + suffix


def retry_environment(environment: TestEnvironment, *, actor: Any, now: datetime) -> None:
    """Begins again from its image after an error; a failed destruction goes on destroying. Refuses in other states."""
    if environment.error_from == State.DESTROYING:
        destroy_environment(environment, actor=actor, now=now)
        return
    with transaction.atomic():
        update = {**AT_REST, "error_from": "", "last_error": "", **first_leases(now)}
        move(environment, "retry", actor=actor, now=now, update=update)
        image = environment.image
        if image is not None and image.state == GoldenImage.State.ERROR:
            retry_image(image, actor=actor, now=now)
        log(environment, language.gettext("Is tried again."), now=now, actor=actor)


def destroy_environment(environment: TestEnvironment, *, actor: Any, now: datetime, why: str = "") -> None:
    """Ends the copy: its CI is retired and its tokens are revoked at once; the test host removes the rest.

    Possible in every state; without effect on one that is being or was destroyed. Row and CI stay.
    """
    check_permission(actor, "test_environments.manage_environments", _("destroy a test environment"))
    for attempt in range(1, _TRIES + 1):
        environment.refresh_from_db()
        if environment.state in {State.DESTROYING, State.DESTROYED}:
            return
        try:
            with transaction.atomic():
                move(environment, "destroy", actor=actor, now=now, update=AT_REST)
                if environment.copy_id is not None:
                    _retire(environment.copy_id, now=now)
                log(environment, why or language.gettext("Is being destroyed."), now=now, actor=actor)
            return
        except TransitionRefused:
            if attempt == _TRIES:
                raise


def finish_destroying(environment: TestEnvironment, *, now: datetime) -> None:
    """Nothing is left of it: its image is free of it, its snapshots are history."""
    with transaction.atomic():
        update = {**FREE, "destroyed_at": now, "observed_pid": None, "observed_power": TestEnvironment.Power.ABSENT}
        move(environment, "finish_destroying", actor=None, now=now, update=update)
        environment.snapshots.all().delete()
        if environment.image is not None:
            drop_reference(environment.image, now=now)
        log(environment, _("Destroyed; nothing of it is left."), now=now)


def _retire(copy_id: int, *, now: datetime) -> None:
    retired = ConfigurationItem.Lifecycle.RETIRED
    ConfigurationItem.objects.filter(pk=copy_id).exclude(lifecycle=retired).update(lifecycle=retired)
    revoke_tokens(copy_id, now=now)


def revoke_tokens(copy_id: int, *, now: datetime) -> None:
    """Ends every identity that a copy was given."""
    for token in AgentToken.objects.filter(ci_id=copy_id, revoked_at=None):
        revoke_agent_token(token, actor=None, now=now)


def start_environment(environment: TestEnvironment, *, actor: Any, now: datetime) -> None:
    """Lets a ready environment run again. Refuses without the right and in other states."""
    _want(environment, True, actor=actor, now=now)


def stop_environment(environment: TestEnvironment, *, actor: Any, now: datetime) -> None:
    """Shuts a ready environment down; it can be started again. Refuses without the right and in other states."""
    _want(environment, False, actor=actor, now=now)


def _want(environment: TestEnvironment, is_wanted: bool, *, actor: Any, now: datetime) -> None:
    what = _("start a test environment") if is_wanted else _("stop a test environment")
    check_permission(actor, "test_environments.manage_environments", what)
    with transaction.atomic():
        values: dict[str, Any] = {"is_wanted_running": is_wanted, "updated_at": now}
        if is_wanted:
            values |= first_leases(now)
        if not TestEnvironment.objects.filter(pk=environment.pk, state=State.READY).update(**values):
            environment.refresh_from_db()
            raise TransitionRefused(
                _("%(object)s is “%(state)s”; only a ready environment is started and stopped.")
                % {"object": environment, "state": environment.get_state_display()}
            )
        log(
            environment,
            language.gettext("Is to run.") if is_wanted else language.gettext("Is to be off."),
            now=now,
            actor=actor,
        )


def snapshot_environment(environment: TestEnvironment, *, actor: Any, now: datetime, name: str) -> EnvironmentSnapshot:
    """Keeps the present state under a name: it is stopped, kept, and runs again. Refuses a name that is taken."""
    check_move(environment, "snapshot", actor=actor)
    name = name.strip()
    if not name or len(name) > 64:
        raise InvalidInput(_("A name of at most 64 characters, please."), field="name")
    if environment.snapshots.filter(name=name).exists():
        raise InvalidInput(_("There is a snapshot of this name already."), field="name")
    with transaction.atomic():
        move(environment, "snapshot", actor=actor, now=now, update={**AT_REST, **first_leases(now)})
        snapshot = EnvironmentSnapshot.objects.create(
            environment=environment, name=name, taken_by=actor, created_at=now, versions=_versions_of(environment)
        )
        log(environment, language.gettext("Snapshot “%(name)s” is being taken.") % {"name": name}, now=now, actor=actor)
    return snapshot


def _versions_of(environment: TestEnvironment) -> dict[str, str]:
    rows = InstalledVersion.objects.filter(ci_id=environment.copy_id, valid_to__isnull=True)
    return {row.product.slug: row.label for row in rows.select_related("product").order_by("product__slug")}


def revert_environment(environment: TestEnvironment, *, actor: Any, now: datetime, snapshot: str = "") -> None:
    """Discards everything since the snapshot of this name (empty: since the copy was made); it then runs again.

    Refuses while a package is applied to it, and a snapshot that was never completed.
    """
    check_move(environment, "revert", actor=actor)
    wanted = None
    if snapshot:
        wanted = environment.snapshots.filter(name=snapshot, kept_at__isnull=False).first()
        if wanted is None:
            raise ConditionRefused(_("There is no complete snapshot “%(name)s” of it.") % {"name": snapshot})
    with transaction.atomic():
        update = {
            **AT_REST, "error_from": "", "last_error": "", "revert_to": wanted.uuid if wanted else None,
            **first_leases(now),
        }  # fmt: skip
        move(environment, "revert", actor=actor, now=now, update=update)
        text = (
            language.gettext("Goes back to the snapshot “%(name)s”.") % {"name": snapshot}
            if wanted
            else language.gettext("Goes back to what it was when it was made.")
        )
        log(environment, text, now=now, actor=actor)


def begin_apply(environment: TestEnvironment, *, now: datetime) -> None:
    """Reserves a ready copy for one package. Refuses with TransitionRefused when it is not ready."""
    if not environment.is_wanted_running and environment.state == State.READY:
        raise ConditionRefused(_("%(object)s is stopped. Start it first.") % {"object": environment})
    move(environment, "apply", actor=None, now=now, update=first_leases(now))


def end_apply(environment: TestEnvironment, *, now: datetime) -> None:
    """Frees the copy after a package; without effect when it is not reserved (any more)."""
    environment.refresh_from_db()
    if environment.state == State.APPLYING:
        move(environment, "applied", actor=None, now=now)


def fail_environment(environment: TestEnvironment, *, now: datetime, text: str) -> None:
    """Writes down which step failed and why. Refuses with TransitionRefused when others moved the row."""
    update = {**AT_REST, "error_from": environment.state, "last_error": text[:4000]}
    with transaction.atomic():
        move(environment, "fail", actor=None, now=now, update=update)
        log(environment, text, now=now, is_problem=True)


__all__ = [
    "AT_REST",
    "begin_apply",
    "destroy_environment",
    "end_apply",
    "fail_environment",
    "finish_destroying",
    "renew_by_use",
    "request_environment",
    "retry_environment",
    "revert_environment",
    "revoke_tokens",
    "snapshot_environment",
    "start_environment",
    "stop_environment",
]
