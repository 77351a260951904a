"""What people and the test gate do with test environments; the work on disk is the test host's."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils.translation import gettext as _

from cmdb.models import AgentToken, ConfigurationItem
from cmdb.services import register_ci, revoke_agent_token
from test_environments.folders import why_not_a_source
from test_environments.models import CopySource, TestEnvironment
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission, move

State = TestEnvironment.State

# The test host holds this advisory lock of the database as long as it lives ("TESTHOST").
HOST_LOCK = 0x5445_5354_484F_5354
# How long a request, or a destruction, waits for a test host.
HOST_DEADLINE = timedelta(minutes=10)
# How long the agent of a new copy may take for its first report.
REPORT_DEADLINE = timedelta(minutes=3)
# Others may have moved the row between our reading and our writing.
_TRIES = 5


def request_environment(
    source: ConfigurationItem,
    *,
    actor: Any,
    now: datetime,
    purpose: str = "",
    versions: Mapping[str, str] | None = None,
) -> TestEnvironment:
    """Asks for a copy of `source`, which the test host makes. The copy's CI exists at once; it reports later.

    `versions` (product's short name: label) makes the copy run other versions than the source runs, out of
    those in its folder. Refuses: without the right; a source that is a copy itself, retired, without an
    agent, or without a folder that an administrator set below the folder of sources.
    """
    check_permission(actor, "test_environments.manage_environments", _("request a test environment"))
    check_source(source)
    with transaction.atomic():
        environment = TestEnvironment.objects.create(
            source=source,
            purpose=_purpose(purpose),
            versions=dict(versions or {}),
            requested_by=actor,
            created_at=now,
            updated_at=now,
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
    return environment


def check_source(source: ConfigurationItem) -> CopySource:
    """The folder to copy `source` from. Refuses a CI that cannot be copied, saying why and what to do."""
    if source.copy_of_id is not None:
        raise ConditionRefused(
            _("%(ci)s is a copy for tests itself. Choose the CI that it was copied from.") % {"ci": source}
        )
    if source.lifecycle in {ConfigurationItem.Lifecycle.RETIRED, ConfigurationItem.Lifecycle.DISPOSED}:
        raise ConditionRefused(_("%(ci)s is retired. Choose a CI in operation.") % {"ci": source})
    if not source.agent_id:
        raise ConditionRefused(_("%(ci)s has no agent, so a copy of it could not be updated.") % {"ci": source})
    folder = CopySource.objects.filter(ci=source).first()
    if folder is None:
        raise ConditionRefused(
            _("%(ci)s may not be copied yet. An administrator names its folder under “Sources of copies”.")
            % {"ci": source}
        )
    why = why_not_a_source(Path(settings.TEST_ENVIRONMENT_SOURCES), folder.folder)
    if why:
        raise ConditionRefused(
            _("%(ci)s cannot be copied: %(why)s An administrator corrects it under “Sources of copies”.")
            % {"ci": source, "why": why}
        )
    return folder


def _purpose(text: str) -> str:
    limit = TestEnvironment._meta.get_field("purpose").max_length or 0
    if len(text) > limit:
        raise InvalidInput(_("The purpose has at most %(limit)d characters.") % {"limit": limit}, field="purpose")
    return text


def _with_suffix(text: str, suffix: str) -> str:
    """`text` cut so that it fits a CI's name or agent id together with `suffix`."""
    return text[: 128 - len(suffix)] + suffix


def retry_environment(environment: TestEnvironment, *, actor: Any, now: datetime) -> None:
    """Begins again after an error; a failed destruction goes on destroying. Refuses in other states."""
    if environment.error_from == State.DESTROYING:
        destroy_environment(environment, actor=actor, now=now)
    else:
        move(
            environment,
            "retry",
            actor=actor,
            now=now,
            update={**_AT_REST, "error_from": "", "last_error": ""},
        )


_AT_REST: dict[str, Any] = {"is_wanted_running": False, "lease": None, "leased_until": None}


def destroy_environment(environment: TestEnvironment, *, actor: Any, now: datetime) -> None:
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
                move(environment, "destroy", actor=actor, now=now, update=_AT_REST)
                if environment.copy_id is not None:
                    _retire(environment.copy_id, now=now)
            return
        except TransitionRefused:
            if attempt == _TRIES:
                raise


def _retire(copy_id: int, *, now: datetime) -> None:
    retired = ConfigurationItem.Lifecycle.RETIRED
    ConfigurationItem.objects.filter(pk=copy_id).exclude(lifecycle=retired).update(lifecycle=retired)
    revoke_tokens(copy_id, now=now)


def revoke_tokens(copy_id: int, *, now: datetime) -> None:
    """Ends every identity that a copy was given."""
    for token in AgentToken.objects.filter(ci_id=copy_id, revoked_at=None):
        revoke_agent_token(token, actor=None, now=now)


def begin_apply(environment: TestEnvironment, *, now: datetime) -> None:
    """Reserves a ready copy for one package. Refuses with TransitionRefused when it is not ready."""
    move(environment, "apply", actor=None, now=now)


def end_apply(environment: TestEnvironment, *, now: datetime) -> None:
    """Frees the copy after a package; without effect when it is not reserved (any more)."""
    environment.refresh_from_db()
    if environment.state == State.APPLYING:
        move(environment, "applied", actor=None, now=now)


def fail_environment(environment: TestEnvironment, *, now: datetime, text: str) -> None:
    """Writes down which step failed and why. Refuses with TransitionRefused when others moved the row."""
    update = {**_AT_REST, "error_from": environment.state, "last_error": text[:4000]}
    move(environment, "fail", actor=None, now=now, update=update)


def advance_test_environments(*, now: datetime) -> int:
    """One tick: what has reported becomes ready, what is stuck ends in an error. Returns rows moved."""
    moving = [State.REQUESTED, State.CAPTURING, State.PROVISIONING, State.DESTROYING]
    moved = 0
    for environment in TestEnvironment.objects.filter(state__in=moving).select_related("copy").order_by("pk"):
        try:
            moved += _advance(environment, now=now)
        except TransitionRefused:
            continue
    return moved


def _advance(environment: TestEnvironment, *, now: datetime) -> bool:
    if has_reported(environment):
        move(environment, "become_ready", actor=None, now=now)
        return True
    why = why_stuck(environment, now=now)
    if why:
        fail_environment(environment, now=now, text=why)
    return bool(why)


def has_reported(environment: TestEnvironment) -> bool:
    """Whether the agent of a copy that was just made has told what it runs."""
    return (
        environment.state == State.PROVISIONING
        and environment.is_wanted_running
        and environment.copy is not None
        and environment.copy.attributes_at is not None
    )


def why_stuck(environment: TestEnvironment, *, now: datetime) -> str:
    """Why nothing more will happen by itself to an unfinished environment; empty while something may."""
    waited = now - environment.updated_at
    if environment.leased_until is not None:
        if environment.leased_until >= now:
            return ""
        return _("The test host stopped in the middle of its work. See that it runs, then retry.")
    if environment.is_wanted_running:
        if waited <= REPORT_DEADLINE:
            return ""
        return _("The copy's agent has not reported within %(minutes)d minutes. Its log is in the copy's folder.") % {
            "minutes": REPORT_DEADLINE.total_seconds() // 60
        }
    if waited <= HOST_DEADLINE or is_host_running():
        return ""
    return _("No test host runs (manage.py run_test_hosts). Start it, then retry.")


def is_host_running() -> bool:
    """Whether a test host is connected to this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = %s::bigint::oid AND objid = %s::bigint::oid)",
            [HOST_LOCK >> 32, HOST_LOCK & 0xFFFF_FFFF],
        )
        row = cursor.fetchone()
    return bool(row and row[0])
