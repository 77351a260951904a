"""Receiving the disk of a production CI: ordering it, and what the test host tells of it.

Who orders gets a secret once; the database keeps its digest. The disk is opened by nobody before its golden image was
approved.
"""

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from hmac import compare_digest
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts import language
from cmdb.models import ConfigurationItem
from test_environments.drivers.receiving import ArrivedDisk, Progress, with_token
from test_environments.drivers.texts import say
from test_environments.models import CopySource, DiskReception, GoldenImage
from test_environments.services.images import request_image
from test_environments.services.log import log
from test_environments.services.sources import check_source
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, TransitionRefused
from tickets.lifecycle import check_permission, move

MANAGE = "test_environments.manage_environments"
State = DiskReception.State
LONGEST = 7 * 24  # hours
_DISK = re.compile(r"[a-z][a-z0-9]{1,31}")


def order_reception(
    ci: ConfigurationItem,
    *,
    actor: Any,
    now: datetime,
    reason: str,
    hours: int = 24,
    machine_address: str = "",
    gateway: str = "",
    disk: str = "",
    expected_sha256: str = "",
    conversion: str = GoldenImage.Conversion.KEEP,
) -> tuple[DiskReception, str]:
    """Expects the disk of a physical machine; the test host makes its capture medium. Returns it with the secret.

    The secret (43 characters) is in no other place. `machine_address` with prefix length and `gateway`: how the machine
    comes into the network, empty by DHCP; `disk`: which of its disks, empty for its only one. Refuses: without the
    right; a CI that was not released for this; a second order while one is open; no free port.
    """
    source = check_order(ci, actor=actor, reason=reason, hours=hours)
    if source.method != CopySource.Method.MEDIUM:
        raise ConditionRefused(
            _("%(ci)s is not released for a capture medium, but for: %(method)s.")
            % {"ci": ci, "method": source.get_method_display()}
        )
    receiver = settings.TEST_ENVIRONMENT_RECEIVER
    if receiver is None:
        raise ConditionRefused(
            _("No address is set up to which physical machines send their disks (TEST_ENVIRONMENT_RECEIVER).")
        )
    _check_network(machine_address, gateway, disk)
    _check_none_open(ci)
    token = secrets.token_urlsafe(32)
    values = {
        "token_sha256": _digest(token), "machine_address": machine_address, "gateway": gateway, "disk": disk,
        "expected_sha256": expected_sha256.lower(), "conversion": conversion,
    }  # fmt: skip
    ports = range(receiver[1], receiver[2] + 1)
    reception = _create_on_free_port(ci, ports, actor=actor, now=now, reason=reason, hours=hours, **values)
    return reception, token


def _create_on_free_port(ci: ConfigurationItem, ports: Iterable[int], **values: Any) -> DiskReception:
    for port in ports:
        if DiskReception.objects.unfinished().filter(port=port, arrived_at__isnull=True).exists():
            continue
        try:
            return create_reception(ci, method=DiskReception.Method.MEDIUM, state=State.REQUESTED, port=port, **values)
        except IntegrityError:
            continue  # somebody else was first
    raise ConditionRefused(_("All ports for physical machines are in use. Wait for a disk, or revoke an order."))


def create_reception(
    ci: ConfigurationItem, *, actor: Any, now: datetime, reason: str, hours: int, **values: Any
) -> DiskReception:
    """Writes the order. Refuses a second one while another of this CI is open; raises IntegrityError for the port."""
    # Made by the portal, so that both portal and test host (root) can write.
    Path(settings.TEST_ENVIRONMENT_EXCHANGE).mkdir(mode=0o700, parents=True, exist_ok=True)
    with transaction.atomic():
        ConfigurationItem.objects.select_for_update().get(pk=ci.pk)
        _check_none_open(ci)
        reception = DiskReception.objects.create(
            ci=ci, reason=reason.strip(), requested_by=actor, created_at=now, updated_at=now,
            expires_at=now + timedelta(hours=hours), **values,
        )  # fmt: skip
        log(reception, language.gettext("Ordered."), now=now, actor=actor)
    return reception


def _check_none_open(ci: ConfigurationItem) -> None:
    found = DiskReception.objects.filter(ci=ci, state__in=[*DiskReception.EXPECTED, State.CHECKING]).first()
    if found is not None:
        text = _("%(number)s is open for this CI already. Wait for it, or revoke it.")
        raise ConditionRefused(text % {"number": found})


def check_order(ci: ConfigurationItem, *, actor: Any, reason: str, hours: int) -> CopySource:
    """How the CI was released. Refuses: without the right, a CI that cannot be copied, no reason, too long."""
    check_permission(actor, MANAGE, _("order the disk of a production CI"))
    source = check_source(ci)
    if not reason.strip() or len(reason) > 255:
        raise InvalidInput(_("Say what the copy is needed for: whoever approves it reads it."), field="reason")
    if not 1 <= hours <= LONGEST:
        raise InvalidInput(_("Between 1 and %(most)d hours.") % {"most": LONGEST}, field="hours")
    return source


def _check_network(machine_address: str, gateway: str, disk: str) -> None:
    try:
        if machine_address:
            if "/" not in machine_address:
                raise ValueError
            ipaddress.IPv4Interface(machine_address)
    except ValueError:
        text = _("An address with prefix length, such as 192.0.2.20/24; empty: by DHCP.")
        raise InvalidInput(text, field="machine_address") from None
    try:
        if gateway:
            ipaddress.IPv4Address(gateway)
    except ValueError:
        raise InvalidInput(_("An address, such as 192.0.2.1."), field="gateway") from None
    if disk and not _DISK.fullmatch(disk):
        raise InvalidInput(_("The name of a disk, such as sda or nvme0n1; empty: the only one."), field="disk")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def medium_path(reception: DiskReception) -> Path:
    """Where the test host puts the medium, without its secret."""
    return Path(settings.TEST_ENVIRONMENT_EXCHANGE) / f"{reception.uuid}.medium"


def medium_with(reception: DiskReception, *, actor: Any, token: str) -> Iterator[bytes]:
    """The blocks of the capture medium with its secret, `medium_bytes` in all.

    Refuses: without the right, another secret, a medium that is not made yet or worth nothing any more.
    """
    check_permission(actor, MANAGE, _("download a capture medium"))
    if not compare_digest(_digest(token), reception.token_sha256):
        raise PermissionRefused(_("This is not the secret of this order. It was shown once, when it was ordered."))
    if reception.state not in DiskReception.EXPECTED or not reception.medium_bytes:
        raise TransitionRefused(
            _("%(number)s is “%(state)s”: there is no medium.")
            % {"number": reception, "state": reception.get_state_display()}
        )
    try:
        blocks = with_token(medium_path(reception), token)
        first = next(blocks)
    except (OSError, ValueError):
        raise ConditionRefused(
            _("The medium is not in the folder that portal and test host share (TEST_ENVIRONMENT_EXCHANGE).")
        ) from None

    def all_blocks() -> Iterator[bytes]:
        yield first
        yield from blocks

    return all_blocks()


def revoke_reception(reception: DiskReception, *, actor: Any, now: datetime) -> None:
    """Ends an order: its secret is worth nothing any more, the test host removes what has arrived."""
    with transaction.atomic():
        move(reception, "revoke", actor=actor, now=now)
        log(reception, language.gettext("Revoked."), now=now, actor=actor)


def prepared(reception: DiskReception, *, now: datetime, medium_bytes: int) -> None:
    """The test host has made the medium and listens."""
    if reception.state == State.REQUESTED:
        with transaction.atomic():
            move(reception, "wait", actor=None, now=now, update={"medium_bytes": medium_bytes})
            log(reception, _("The medium is made; the machine may be booted from it."), now=now)


def note_progress(reception: DiskReception, progress: Progress, *, now: datetime) -> None:
    """How far the transfer is. Refuses with TransitionRefused when the order ended meanwhile."""
    values = {"size": progress.size, "received_bytes": progress.received, "sender": progress.sender[:45]}
    with transaction.atomic():
        if progress.size and reception.state == State.WAITING:
            inventory = dict(progress.inventory)
            move(reception, "receive", actor=None, now=now, update={**values, "inventory": inventory, "last_error": ""})
            log(reception, _("%(sender)s begins to send.") % {"sender": progress.sender or "–"}, now=now)
        elif not progress.size and progress.refusal:
            refusal = say(progress.refusal, language.gettext)
            values = {"size": 0, "received_bytes": 0, "last_error": refusal[:4000]}
            if reception.state == State.RECEIVING:
                move(reception, "wait_again", actor=None, now=now, update=values)
            log(reception, refusal, now=now, is_problem=True)
        elif not DiskReception.objects.filter(pk=reception.pk, state=State.RECEIVING).update(**values):
            reception.refresh_from_db()
            if reception.state not in DiskReception.EXPECTED:
                raise TransitionRefused(_("%(number)s is expected no longer.") % {"number": reception})


def arrive(reception: DiskReception, disk: ArrivedDisk, *, now: datetime) -> None:
    """It is complete: its golden image is asked for, in the name of who ordered the disk.

    Another checksum than was announced, or a CI that may no longer be copied, ends it with an error.
    """
    if reception.expected_sha256 and reception.expected_sha256 != disk.sha256:
        text = _("The disk has the checksum %(found)s, not %(wanted)s.")
        fail_reception(reception, now=now, text=text % {"found": disk.sha256, "wanted": reception.expected_sha256})
        return
    try:
        with transaction.atomic():
            image = request_image(
                reception.ci, actor=reception.requested_by, now=now, reason=reception.reason, received=reception,
                expected_sha256=disk.sha256, conversion=reception.conversion,
            )  # fmt: skip
            update = {
                "sha256": disk.sha256, "size": disk.size, "received_bytes": disk.size, "last_error": "",
                "inventory": dict(disk.inventory), "image": image, "arrived_at": now,
            }  # fmt: skip
            move(reception, "arrive", actor=None, now=now, update=update)
            log(reception, _("Arrived; its image %(image)s waits for its approval.") % {"image": image}, now=now)
    except (ConditionRefused, PermissionRefused) as error:
        fail_reception(reception, now=now, text=error.message)


def fail_reception(reception: DiskReception, *, now: datetime, text: str) -> None:
    """Writes down why it was refused; what arrived goes."""
    with transaction.atomic():
        move(reception, "fail", actor=None, now=now, update={"last_error": text[:4000]})
        log(reception, text, now=now, is_problem=True)


def cleared(reception: DiskReception, *, now: datetime) -> None:
    """The test host has removed what had arrived."""
    with transaction.atomic():
        if reception.state == State.ARRIVED:
            move(reception, "finish", actor=None, now=now, update={"cleared_at": now})
        else:
            DiskReception.objects.filter(pk=reception.pk).update(cleared_at=now)
        log(reception, _("What had arrived is deleted."), now=now)


def expire_receptions(*, now: datetime) -> int:
    """Ends orders whose time is over. Returns how many."""
    expired = 0
    for reception in DiskReception.objects.expected().filter(expires_at__lt=now).order_by("pk"):
        try:
            with transaction.atomic():
                move(reception, "expire", actor=None, now=now)
                log(reception, _("The disk did not arrive in time."), now=now, is_problem=True)
            expired += 1
        except TransitionRefused:
            continue
    return expired
