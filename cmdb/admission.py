"""Who may speak for devices besides their own tokens: gateways, certificates; and the approval of whom they bring."""

import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from cmdb.models import (
    AgentProfile,
    CIClass,
    CIGroup,
    ConfigurationItem,
    GatewayToken,
    Registration,
    TrustedAuthority,
)
from cmdb.services import MAX_TOKEN_LENGTH, Beside, digest, find_agent, register_ci
from tickets.exceptions import DomainError, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.services import validate

MANAGE = "cmdb.manage_cis"
MAX_WAITING = 1000
MAX_ATTRIBUTES = 100
_MAX_AUTHORITIES = 20
_SEEN_STEP = timedelta(seconds=60)
_AGENT_ID: Any = ConfigurationItem._meta.get_field("agent_id")


class TooManyWaiting(DomainError):
    """More devices wait for approval than anybody could look at (HTTP 429)."""

    code = "too_many_waiting"
    status = 429


def authenticate_gateway(
    agent_id: str, token: str, beside: Beside | None = None
) -> tuple[GatewayToken, ConfigurationItem | None] | None:
    """The gateway with this token, and the CI that it may speak for; without a CI: nobody knows this device yet.

    None: no such token, or the device is known and is not of the gateway's group.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        return None
    # By its digest: how long the search takes tells nothing about the token.
    gateway = GatewayToken.objects.select_related("group").filter(sha256=digest(token), revoked_at=None).first()
    if gateway is None:
        return None
    ci = find_agent(agent_id, beside)
    if ci is not None and not gateway.group.contains(ci):
        return None
    return gateway, ci


def authenticate_certificate(
    agent_id: str, authorities: Iterable[str], beside: Beside | None = None
) -> tuple[TrustedAuthority, ConfigurationItem | None] | None:
    """The trusted one of the authorities that issued the device's certificate, and the CI; None: none is trusted."""
    named = {name.strip().lower() for name in authorities if "\x00" not in name}
    known = sorted(name for name in named if name)[:_MAX_AUTHORITIES]
    authority = TrustedAuthority.objects.filter(identifier__in=known).order_by("pk").first() if known else None
    return (authority, find_agent(agent_id, beside)) if authority is not None else None


def let_wait(
    agent_id: str, *, source: GatewayToken | TrustedAuthority, address: str, now: datetime
) -> Registration | None:
    """The device among those that wait for approval; a new one is put there.

    None: it was rejected, waits for somebody else's sake, or is not to be registered. Raises `InvalidInput` for an id
    that is none, `TooManyWaiting` when too many wait already.
    """
    by_gateway = isinstance(source, GatewayToken)
    found = Registration.objects.filter(agent_id=agent_id).first() if "\x00" not in agent_id else None
    if found is None:
        if not source.may_register:
            return None
        _check_agent_id(agent_id)
        mine = {"gateway_token" if by_gateway else "authority": source}
        if Registration.objects.filter(state=Registration.State.WAITING, **mine).count() >= MAX_WAITING:
            raise TooManyWaiting(_("Too many devices wait for approval. Approve or reject some."))
        values = {**mine, "address": _address(address), "first_seen_at": now, "last_seen_at": now}
        # In this moment another gateway may have brought it.
        found = Registration.objects.get_or_create(agent_id=agent_id, defaults=values)[0]
    # Whoever holds one gateway's token learns and changes nothing about the devices of another one.
    is_own = found.gateway_token_id == source.pk if by_gateway else found.authority_id is not None
    if not is_own or found.state != Registration.State.WAITING:
        return None
    if found.last_seen_at < now - _SEEN_STEP:
        Registration.objects.filter(pk=found.pk).update(last_seen_at=now)
    return found


def _check_agent_id(agent_id: str) -> None:
    is_sound = len(agent_id) <= _AGENT_ID.max_length
    if not is_sound or any(v.regex.fullmatch(agent_id) is None for v in _AGENT_ID.validators if hasattr(v, "regex")):
        raise InvalidInput(_("The agent id has to begin with a letter or digit; then also . _ : - are possible."))


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def note_attributes(registration: Registration, data: Mapping[str, str | None]) -> bool:
    """Keeps what a waiting device says about itself, for whoever approves it. False: it says too much."""
    with transaction.atomic():
        row = Registration.objects.select_for_update().get(pk=registration.pk)
        after = {key: value for key, value in {**row.attributes, **data}.items() if value is not None}
        if len(after) > MAX_ATTRIBUTES:
            return False
        Registration.objects.filter(pk=row.pk).update(attributes=after)
    return True


def approve_registration(
    registration: Registration,
    *,
    actor: Any,
    now: datetime,
    ci_class: CIClass | None = None,
    name: str = "",
    owner: Any = None,
    team: Any = None,
    agent_profile: AgentProfile | None = None,
) -> ConfigurationItem:
    """Makes the device a CI in operation; what a gateway brought becomes a named member of its group.

    Class and profile are those of the gateway or authority unless others are given; the name is the agent's id.
    Refuses with `TransitionRefused` what does not wait any more, and as `register_ci` does.
    """
    check_permission(actor, MANAGE, _("approve devices"))
    with transaction.atomic():
        _lock_waiting(registration)
        source = registration.admitted_by
        ci_class = ci_class or source.ci_class
        if ci_class is None:
            raise InvalidInput(_("Say of which class it is."), field="ci_class")
        ci = register_ci(
            actor=actor,
            now=now,
            name=name or registration.agent_id,
            ci_class=ci_class,
            owner=owner,
            team=team,
            agent_id=registration.agent_id,
            agent_profile=agent_profile or source.agent_profile,
        )
        if registration.gateway_token is not None:
            registration.gateway_token.group.static_members.add(ci)
        _decide(registration, Registration.State.APPROVED, actor, now, ci=ci)
    return ci


def reject_registration(registration: Registration, *, actor: Any, now: datetime, reason: str = "") -> None:
    """Refuses the device from now on like a stranger. `reopen_registration` takes it back."""
    check_permission(actor, MANAGE, _("reject devices"))
    with transaction.atomic():
        _lock_waiting(registration)
        _decide(registration, Registration.State.REJECTED, actor, now, reason=reason[:200])


def reopen_registration(registration: Registration, *, actor: Any, now: datetime) -> None:
    """Lets a rejected device wait for approval again."""
    check_permission(actor, MANAGE, _("take back a rejection"))
    rejected = Registration.objects.filter(pk=registration.pk, state=Registration.State.REJECTED)
    if not rejected.update(state=Registration.State.WAITING, decided_by=None, decided_at=None, reason=""):
        raise TransitionRefused(_("%(device)s is not rejected.") % {"device": registration})
    registration.refresh_from_db()


def _lock_waiting(registration: Registration) -> None:
    Registration.objects.select_for_update().only("pk").get(pk=registration.pk)
    registration.refresh_from_db()
    if registration.state != Registration.State.WAITING:
        raise TransitionRefused(
            _("%(device)s does not wait any more: it is %(state)s.")
            % {"device": registration, "state": registration.get_state_display()}
        )


def _decide(registration: Registration, state: str, actor: Any, now: datetime, **values: Any) -> None:
    Registration.objects.filter(pk=registration.pk).update(state=state, decided_by=actor, decided_at=now, **values)
    registration.refresh_from_db()


def issue_gateway_token(
    *,
    actor: Any,
    now: datetime,
    name: str,
    group: CIGroup,
    may_register: bool = True,
    ci_class: CIClass | None = None,
    agent_profile: AgentProfile | None = None,
) -> str:
    """A new secret for a gateway that speaks for the group; only its SHA-256 is kept, so show it now or never."""
    check_permission(actor, MANAGE, _("issue gateway tokens"))
    if GatewayToken.objects.filter(name=name).exists():
        raise InvalidInput(_("Another gateway token has this name. Choose another one."), field="name")
    secret = secrets.token_urlsafe(32)
    token = GatewayToken(
        name=name,
        group=group,
        may_register=may_register,
        ci_class=ci_class,
        agent_profile=agent_profile,
        sha256=digest(secret),
        created_at=now,
    )
    validate(token, exclude=("sha256",))
    token.save(force_insert=True)
    return secret


def revoke_gateway_token(token: GatewayToken, *, actor: Any, now: datetime) -> bool:
    """Ends a gateway token at once; what it brought stays. False: it had ended before."""
    check_permission(actor, MANAGE, _("revoke gateway tokens"))
    return bool(GatewayToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now))
