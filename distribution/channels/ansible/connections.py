"""Putting a CI on the push channel, and taking it off."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from cmdb.credentials import check_host_keys
from cmdb.models import ConfigurationItem, Connection, Credential
from distribution.models import LIVE, Deployment
from tickets.exceptions import InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.services import validate

MANAGE = "cmdb.manage_cis"


def connect_ci(
    ci: ConfigurationItem,
    *,
    actor: Any,
    now: datetime,
    kind: str = Connection.Kind.SSH,
    folder: str,
    address: str = "",
    port: int = 22,
    user: str = "",
    credential: Credential | None = None,
    host_key: str = "",
    python: str = "/usr/bin/python3",
) -> Connection:
    """Software reaches the CI by Ansible from now on; with SSH only a host with one of the pinned keys.

    Refuses with `TransitionRefused` while a deployment is under way, by whatever channel, and with `InvalidInput`
    what is no connection.
    """
    check_permission(actor, MANAGE, _("connect hosts"))
    with transaction.atomic():
        _lock_idle(ci)
        connection = Connection.objects.filter(ci=ci).first() or Connection(ci=ci)
        connection.kind, connection.folder, connection.python = kind, folder, python
        connection.address, connection.port, connection.user = address, port, user
        connection.credential, connection.host_key = credential, check_host_keys(host_key)
        _check(connection)
        validate(connection, exclude=["ci"])
        connection.save()
        _set_channel(ci, ConfigurationItem.Channel.ANSIBLE)
    return connection


def disconnect_ci(ci: ConfigurationItem, *, actor: Any, now: datetime) -> bool:
    """Leaves the CI to its agent again; its connection stays for another time. False: it was not pushed to."""
    check_permission(actor, MANAGE, _("connect hosts"))
    with transaction.atomic():
        _lock_idle(ci)
        return _set_channel(ci, ConfigurationItem.Channel.DDI)


def _lock_idle(ci: ConfigurationItem) -> None:
    live = Deployment.objects.select_for_update(no_key=True).filter(ci=ci, state__in=LIVE).order_by("pk")
    if live.exists():
        raise TransitionRefused(_("Something is being installed on the CI. Wait for its end, or cancel it."))
    ConfigurationItem.objects.select_for_update(no_key=True).only("pk").get(pk=ci.pk)


def _set_channel(ci: ConfigurationItem, channel: str) -> bool:
    changed = ConfigurationItem.objects.filter(pk=ci.pk).exclude(channel=channel).update(channel=channel)
    ci.channel = channel
    return bool(changed)


def _check(connection: Connection) -> None:
    if connection.kind == Connection.Kind.LOCAL:
        if not settings.PUSH_ALLOW_LOCAL:
            raise InvalidInput(_("The worker's own machine is no host here (PUSH_ALLOW_LOCAL)."), field="kind")
        return
    for name in ("address", "user", "credential", "host_key"):
        if not getattr(connection, name):
            raise InvalidInput(_("SSH needs an address, a user, a credential and the host's key."), field=name)
