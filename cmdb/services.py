"""Registering CIs, the agents' tokens, and what is installed where."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from cmdb.drift import note_report
from cmdb.flapping import make_room
from cmdb.models import AgentProfile, AgentToken, CIClass, ConfigurationItem, InstalledVersion, MaintenanceWindow
from cmdb.prepared import columns_of, fetch_row
from software.models import Product, Version
from tickets.exceptions import InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.services import validate

MAX_TOKEN_LENGTH = 128
_VALID_TOKENS = 2
_NOBODY = hashlib.sha256(b"no agent has this token").hexdigest()

# Written by hand: every request of every device begins with it, and the ORM needs ten times as long to put it together.
# Only what such a request uses, as each column costs something on both sides; the rest is read when it is asked for.
_AGENT_FIELDS = columns_of(
    ConfigurationItem,
    "id", "agent_id", "channel", "copy_of_id", "agent_profile_id", "attributes_wanted", "health_request",
    "last_seen_at",
)  # fmt: skip
_PROFILE_FIELDS = columns_of(AgentProfile, "id", "proof", "attribute_key", "takes", "can_remove", "can_wait")
_WINDOW_FIELDS = columns_of(MaintenanceWindow, "id", "weekdays", "start", "minutes", "zone")
_AGENT = f"""
SELECT {", ".join(f"ci.{name}" for name in _AGENT_FIELDS)}, {", ".join(f"p.{name}" for name in _PROFILE_FIELDS)},
    {", ".join(f"w.{name}" for name in _WINDOW_FIELDS)}, clock_timestamp(),
    ARRAY(SELECT t.sha256 FROM cmdb_agenttoken t
        WHERE t.ci_id = ci.id AND t.revoked_at IS NULL ORDER BY t.id DESC LIMIT {_VALID_TOKENS})
    {{columns}}
FROM cmdb_configurationitem ci
LEFT JOIN cmdb_agentprofile p ON p.id = ci.agent_profile_id
JOIN cmdb_ciclass kind ON kind.id = ci.ci_class_id
LEFT JOIN cmdb_maintenancewindow w
    ON w.id = coalesce(ci.maintenance_window_id, kind.maintenance_window_id) AND ci.copy_of_id IS NULL
{{joins}}
WHERE ci.agent_id = %(agent_id)s
"""  # noqa: S608 - put together from constants
_PROFILE_AT = len(_AGENT_FIELDS)
_WINDOW_AT = _PROFILE_AT + len(_PROFILE_FIELDS)
_CLOCK_AT = _WINDOW_AT + len(_WINDOW_FIELDS)


def register_ci(
    *,
    actor: Any,
    now: datetime,
    name: str,
    ci_class: CIClass,
    owner: Any = None,
    team: Any = None,
    description: str = "",
    agent_id: str | None = None,
    agent_profile: AgentProfile | None = None,
    maintenance_window: MaintenanceWindow | None = None,
    copy_of: ConfigurationItem | None = None,
    lifecycle: str = ConfigurationItem.Lifecycle.IN_OPERATION,
) -> ConfigurationItem:
    """A new configuration item. Refuses a name or an agent id that another CI has with `InvalidInput`."""
    check_permission(actor, "cmdb.manage_cis", _("register configuration items"))
    ci = ConfigurationItem(
        name=name,
        ci_class=ci_class,
        owner=owner,
        team=team,
        description=description,
        agent_id=agent_id or None,
        agent_profile=agent_profile,
        maintenance_window=maintenance_window,
        copy_of=copy_of,
        lifecycle=lifecycle,
        created_at=now,
    )
    validate(ci, exclude=())
    if copy_of is not None and copy_of.copy_of_id is not None:
        raise InvalidInput(_("A copy is made of a production CI, not of another copy."), field="copy_of")
    if ConfigurationItem.objects.filter(name=name).exists():
        raise InvalidInput(_("Another configuration item has this name. Choose another one."), field="name")
    if ci.agent_id and ConfigurationItem.objects.filter(agent_id=ci.agent_id).exists():
        raise InvalidInput(_("The agent of another CI has this id. Choose another one."), field="agent_id")
    ci.save(force_insert=True)
    return ci


def issue_agent_token(ci: ConfigurationItem, *, actor: Any, now: datetime) -> str:
    """A new secret for the CI's agent; only its SHA-256 is kept, so show it now or never.

    The newest one before stays valid, so that the agent can be given the new one without a gap; older ones
    end.
    """
    check_permission(actor, "cmdb.manage_cis", _("issue agents' tokens"))
    if not ci.agent_id:
        raise InvalidInput(_("The CI has no agent. Give it an agent id first."), field="agent_id")
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        ConfigurationItem.objects.select_for_update(no_key=True).only("pk").get(pk=ci.pk)
        valid = AgentToken.objects.filter(ci=ci, revoked_at=None).order_by("-id")
        ended = list(valid.values_list("pk", flat=True)[_VALID_TOKENS - 1 :])
        AgentToken.objects.filter(pk__in=ended).update(revoked_at=now)
        AgentToken.objects.create(ci=ci, sha256=digest(token), created_at=now)
    return token


def request_attributes(ci: ConfigurationItem, *, actor: Any, now: datetime) -> bool:
    """Asks the CI's agent for its attributes with its next poll; what it answers is taken as any report.

    False: it is asked already. Refuses a CI without an agent.
    """
    check_permission(actor, "cmdb.manage_cis", _("ask devices for their attributes"))
    if not ci.agent_id or ci.channel != ConfigurationItem.Channel.DDI:
        raise TransitionRefused(_("No agent asks for this CI, so nobody would answer."))
    asked = ConfigurationItem.objects.filter(pk=ci.pk, attributes_wanted=False).update(attributes_wanted=True)
    ci.attributes_wanted = True
    return bool(asked)


def revoke_agent_token(token: AgentToken, *, actor: Any, now: datetime) -> bool:
    """Ends a token at once; False: it had ended before."""
    check_permission(actor, "cmdb.manage_cis", _("revoke agents' tokens"))
    return bool(AgentToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now))


@dataclass(frozen=True, slots=True)
class Beside:
    """What a caller reads together with an agent's CI, so that both take one statement: columns and joins (at most one
    row for each CI) over `ci`, its profile `p` and its window `w`. `ci.take_beside(about)` gives them out.
    """

    about: Any
    columns: str
    joins: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def authenticate_agent(agent_id: str, token: str, beside: Beside | None = None) -> ConfigurationItem | None:
    """The CI whose agent this is, or None; the same work for an unknown id as for a wrong token. One query.

    The CI comes with its profile and its window, with `database_now` (the clock for the rest of the request), and
    without the columns that devices' requests do not use.
    """
    if "\x00" in agent_id or len(token) > MAX_TOKEN_LENGTH:
        return None
    ci, known = _find(agent_id, beside)
    hashes = [*known, _NOBODY, _NOBODY][:_VALID_TOKENS]
    given = digest(token)
    # Both are compared, whatever the first says.
    matches = [hmac.compare_digest(given, known) for known in hashes]
    return ci if any(matches) else None


def ci_of_token(token: str) -> int | None:
    """The id of the CI whose agent has this token. Found by the digest: the time that it takes tells nothing."""
    valid = AgentToken.objects.filter(sha256=digest(token[: MAX_TOKEN_LENGTH + 1]), revoked_at=None)
    return valid.values_list("ci_id", flat=True).first()


def find_agent(agent_id: str, beside: Beside | None = None) -> ConfigurationItem | None:
    """The CI with this agent, as `authenticate_agent` gives it, for a caller that knows who speaks. One query."""
    return _find(agent_id, beside)[0] if "\x00" not in agent_id else None


def _find(agent_id: str, beside: Beside | None) -> tuple[ConfigurationItem | None, list[str]]:
    beside = beside or _NOTHING_BESIDE
    row = fetch_row(_agent_statement(beside.columns, beside.joins), {**beside.values, "agent_id": agent_id})
    if row is None:
        return None, []
    ci = _agent_of(row)
    ci.beside = beside.about, row[_CLOCK_AT + 2 :]
    return ci, row[_CLOCK_AT + 1]


_NOTHING_BESIDE = Beside(None, "")


@cache
def _agent_statement(columns: str, joins: str) -> str:
    return _AGENT.format(columns=columns and f", {columns}", joins=joins)


def _agent_of(row: tuple[Any, ...]) -> ConfigurationItem:
    ci = ConfigurationItem.from_db(connection.alias, _AGENT_FIELDS, row[:_PROFILE_AT])
    profile = row[_PROFILE_AT:_WINDOW_AT]
    ci.agent_profile = AgentProfile.from_db(connection.alias, _PROFILE_FIELDS, profile) if profile[0] else None
    window = row[_WINDOW_AT:_CLOCK_AT]
    ci.window = MaintenanceWindow.from_db(connection.alias, _WINDOW_FIELDS, window) if window[0] else None
    ci.database_now = row[_CLOCK_AT]  # type: ignore[attr-defined]
    return ci


def digest(token: str) -> str:
    """What is kept of a secret: its SHA-256, as hex."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def record_installed(
    ci: ConfigurationItem,
    *,
    product: Product,
    label: str,
    now: datetime,
    source: str = "",
    is_drift: bool = False,
    is_told: bool = False,
) -> InstalledVersion | None:
    """Notes that the CI runs this version of the product since `now`; None: it did already.

    A label that the media library does not know is kept as text. `source` says what brought it; with `is_drift`
    nothing of ours did, which is a drift unless it is what was expected, or the first that we hear of the product.
    `is_told`: only a report says so; such changes are folded when they come too often (`cmdb.flapping`).
    """
    with transaction.atomic():
        current = _locked_current(ci, product)
        version = Version.objects.filter(product=product, label=label).first()
        return replace_installed(
            ci, current, product=product, version=version, label=label, now=now, source=source, is_drift=is_drift,
            is_told=is_told,
        )  # fmt: skip


def replace_installed(
    ci: ConfigurationItem,
    current: InstalledVersion | None,
    *,
    product: Product,
    version: Version | None,
    label: str,
    now: datetime,
    source: str,
    is_drift: bool,
    is_told: bool = False,
) -> InstalledVersion | None:
    """`record_installed` for a caller that has locked the CI and read its current row and the version."""
    if current is not None and current.label == label:
        if current.version_id is None and version is not None:
            InstalledVersion.objects.filter(pk=current.pk).update(version=version)
        return None
    if current is not None:
        # Of two reports at the same time the later one to be written counts, whichever was sent first.
        now = max(now, current.valid_from)
    # A version that was expected itself has no drift that a deployment could end.
    if is_drift or current is None or current.is_drift:
        before = current.label if current is not None else None
        is_drift = note_report(ci, product, before=before, label=label, is_explained=not is_drift, now=now)
    row = make_room(ci, product, now=now) if is_told else None
    if row is None:
        row = InstalledVersion(ci=ci, product=product, replaced=current)
        if current is not None:
            InstalledVersion.objects.filter(pk=current.pk).update(valid_to=now)
    row.version, row.label, row.source, row.is_drift = version, label, source, is_drift
    row.valid_from, row.valid_to, row.changes = now, None, int(is_told)
    row.save()
    return row


def record_removed(
    ci: ConfigurationItem, *, product: Product, now: datetime, source: str = ""
) -> InstalledVersion | None:
    """Notes that the CI no longer has the product; returns what it had, None: it had nothing.

    `source` says what removed it, empty: nothing of ours, so it is drift. It is not kept: what brought a version
    stands with that version, and its end has the deployment's event.
    """
    with transaction.atomic():
        current = _locked_current(ci, product)
        if current is not None:
            note_report(ci, product, before=current.label, label=None, is_explained=bool(source), now=now)
            current.valid_to = max(now, current.valid_from)
            current.save(update_fields=["valid_to"])
        return current


def _locked_current(ci: ConfigurationItem, product: Product) -> InstalledVersion | None:
    ConfigurationItem.objects.select_for_update(no_key=True).only("pk").get(pk=ci.pk)
    return InstalledVersion.objects.filter(ci=ci, product=product, valid_to=None).first()
