"""Disks of production CIs are ordered, arrive with a secret and a checksum, and end in an image that waits."""

import hashlib
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import reverse
from rest_framework.test import APIClient

from test_environments import services
from test_environments.drivers.libvirt.driver import Libvirt
from test_environments.drivers.receiving import TOKEN_PLACE
from test_environments.models import CopySource, DiskReception, GoldenImage
from test_environments.services.receptions import medium_path
from test_environments.services.uploads import upload_path
from tests.factories import NOW, make_ci, make_user
from tests.test_environments.conftest import until
from tests.test_environments.reception_desk import DISK, Desk, Sender, transfer
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused, SeparationOfDuties, TransitionRefused

MEDIUM = b"\0" * 700_000 + b"token=" + TOKEN_PLACE + b"\nport=1\n" + b"\0" * 700_000


@pytest.fixture
def engineer(db):
    # Somebody who could approve, too, if it were not his own order.
    return make_user("engineer", "release engineer", "release manager")


@pytest.fixture
def till(db, tmp_path: Path, settings):
    """A physical machine whose disk may be received."""
    settings.TEST_ENVIRONMENT_EXCHANGE = tmp_path / "exchange"
    settings.TEST_ENVIRONMENT_DRIVERS = {**settings.TEST_ENVIRONMENT_DRIVERS, "libvirt": {}}
    # An address of the loopback that nobody else uses, so that the port is free.
    address = ".".join(["127", *(str(secrets.randbelow(254) + 1) for _ in range(3))])
    settings.TEST_ENVIRONMENT_RECEIVER = (address, 8443, 8443)
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, driver="libvirt", method="medium", kind="physical")
    return ci


def order(till, engineer, **values) -> tuple[DiskReception, str]:
    return services.order_reception(till, actor=engineer, now=NOW, reason="REL-0000002", **values)


def upload(till, engineer, content: bytes = DISK, **values) -> DiskReception:
    CopySource.objects.update(method="upload")
    given = {"filename": "till-7.qcow2", "size": len(content), "reason": "REL-0000002", **values}
    return services.begin_disk_upload(till, actor=engineer, now=NOW, **given)


def test_the_secret_is_given_once_and_only_its_digest_is_kept(till, engineer):
    reception, secret = order(till, engineer)
    assert (reception.state, len(secret)) == ("requested", 43)
    assert reception.token_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    row = DiskReception.objects.values().get()
    assert secret not in str(row)
    assert reception.expires_at == NOW + timedelta(hours=24)


def test_an_order_needs_the_right_a_reason_a_release_and_a_port(till, engineer, settings):
    for role in ("service desk", "release manager"):
        with pytest.raises(PermissionRefused):
            order(till, make_user(role, role))
    with pytest.raises(InvalidInput, match="reads it"):
        services.order_reception(till, actor=engineer, now=NOW, reason=" ")
    for wrong in ({"machine_address": "192.0.2.20"}, {"gateway": "router"}, {"disk": "../sda"}, {"hours": 1000}):
        with pytest.raises(InvalidInput):
            order(till, engineer, **wrong)
    CopySource.objects.update(method="upload")
    with pytest.raises(ConditionRefused, match="not released for a capture medium"):
        order(till, engineer)
    CopySource.objects.update(method="medium")
    settings.TEST_ENVIRONMENT_RECEIVER = None
    with pytest.raises(ConditionRefused, match="TEST_ENVIRONMENT_RECEIVER"):
        order(till, engineer)
    assert not DiskReception.objects.exists()


def test_one_order_is_open_for_each_machine_and_each_port(till, engineer):
    first, _secret = order(till, engineer)
    with pytest.raises(ConditionRefused, match=first.number):
        order(till, engineer)
    other = make_ci("till-8", agent_id="till-8")
    CopySource.objects.create(ci=other, driver="libvirt", method="medium", kind="physical")
    with pytest.raises(ConditionRefused, match="All ports"):
        order(other, engineer)
    services.revoke_reception(first, actor=engineer, now=NOW)
    DiskReception.objects.update(cleared_at=NOW)  # as the test host does
    assert order(other, engineer)[0].port == first.port


def test_an_image_of_such_a_machine_is_not_asked_for_before_its_disk_is_there(till, engineer):
    with pytest.raises(ConditionRefused, match="arrive first"):
        services.request_image(till, actor=engineer, now=NOW, reason="REL-0000002")


def test_an_order_ends_by_itself(till, engineer):
    reception, _secret = order(till, engineer, hours=1)
    assert services.advance_test_environments(now=NOW + timedelta(minutes=5)) == 0
    assert services.advance_test_environments(now=NOW + timedelta(minutes=61)) == 1
    reception.refresh_from_db()
    assert reception.state == "expired"


def test_the_medium_is_for_who_has_the_secret(till, engineer):
    reception, secret = order(till, engineer)
    with pytest.raises(TransitionRefused, match="no medium"):
        services.medium_with(reception, actor=engineer, token=secret)
    medium_path(reception).write_bytes(MEDIUM)
    reception.medium_bytes = len(MEDIUM)
    filled = b"".join(services.medium_with(reception, actor=engineer, token=secret))
    assert filled == MEDIUM.replace(TOKEN_PLACE, secret.encode())
    assert medium_path(reception).read_bytes() == MEDIUM
    for wrong in ("x" * 43, "", TOKEN_PLACE.decode()):
        with pytest.raises(PermissionRefused, match="not the secret"):
            services.medium_with(reception, actor=engineer, token=wrong)
    with pytest.raises(PermissionRefused):
        services.medium_with(reception, actor=make_user("desk", "service desk"), token=secret)
    services.revoke_reception(reception, actor=engineer, now=NOW)
    with pytest.raises(TransitionRefused, match="revoked"):
        services.medium_with(reception, actor=engineer, token=secret)


def test_an_upload_goes_on_where_it_stopped(till, engineer):
    reception = upload(till, engineer)
    who = {"actor": engineer, "now": NOW}
    services.write_disk_piece(reception, **who, offset=0, stream=BytesIO(DISK[:1000]))
    assert (reception.state, reception.received_bytes) == ("receiving", 1000)
    for offset in (0, 999, 1001):
        with pytest.raises(ConditionRefused, match="begins at byte 1000"):
            services.write_disk_piece(reception, **who, offset=offset, stream=BytesIO(b"x"))
    with pytest.raises(InvalidInput, match="goes beyond"):
        services.write_disk_piece(reception, **who, offset=1000, stream=BytesIO(DISK))
    assert upload_path(reception).stat().st_size == 1000
    services.write_disk_piece(reception, **who, offset=1000, stream=BytesIO(DISK[1000:]))
    assert (reception.state, upload_path(reception).read_bytes()) == ("checking", DISK)
    with pytest.raises(TransitionRefused):
        services.write_disk_piece(reception, **who, offset=len(DISK), stream=BytesIO(b"x"))


def test_an_upload_that_cannot_be_is_refused_before_a_byte_of_it(till, engineer, settings):
    settings.TEST_ENVIRONMENT_UPLOAD_MAX_BYTES = 10_000_000
    for wrong in ({"filename": "till.iso"}, {"filename": "till"}, {"size": 0}, {"size": 10_000_001}):
        with pytest.raises(InvalidInput):
            upload(till, engineer, **wrong)
    reception = upload(till, engineer, filename="x/../TILL.QCOW2")
    assert reception.format == "qcow2"
    with pytest.raises(PermissionRefused):
        services.write_disk_piece(
            reception, actor=make_user("desk", "service desk"), now=NOW, offset=0, stream=BytesIO(DISK)
        )


@pytest.fixture
def desk(transactional_db, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "machines")
    yield desk
    desk.end()


def state_of(reception: DiskReception) -> str:
    reception.refresh_from_db()
    return str(reception.state)


def expected(till, engineer) -> tuple[DiskReception, str]:
    """Ordered, with a medium that lies there already: building one takes Debian's packages."""
    reception, secret = order(till, engineer)
    medium_path(reception).write_bytes(MEDIUM)
    return reception, secret


def test_who_only_keeps_a_place_is_cut(desk, till, engineer, monkeypatch):
    monkeypatch.setattr("test_environments.drivers.libvirt.receiver._GREETING_SECONDS", 0.5)
    reception, _secret = expected(till, engineer)
    until(lambda: state_of(reception) == "waiting")
    with socket.create_connection(settings.TEST_ENVIRONMENT_RECEIVER[:2], timeout=30) as line:
        line.sendall(b"\x16\x03\x01\x02\x00")  # the head of a record, and then a byte of it now and then
        until(lambda: _is_cut(line))


def _is_cut(line: socket.socket) -> bool:
    try:
        line.sendall(b"\x01")
    except OSError:
        return True
    return False


def test_what_nobody_expected_fails_with_its_reason(desk, till, engineer, monkeypatch):
    def broken(*args: object) -> None:
        raise RuntimeError("the moon is full\0")

    monkeypatch.setattr(Libvirt, "receive", broken)
    reception, _secret = expected(till, engineer)
    until(lambda: state_of(reception) == "error")
    assert reception.last_error == "RuntimeError: the moon is full"


def test_a_disk_that_arrives_ends_in_an_image_that_waits_for_its_approval(desk, till, engineer, tmp_path):
    reception, secret = expected(till, engineer)
    until(lambda: state_of(reception) == "waiting")
    assert reception.medium_bytes == len(MEDIUM)
    place = desk.folder / "incoming" / str(reception.uuid)
    sender = Sender(place / "receiver.pem")
    assert b"not expected" in sender.send(*transfer("guessed")[:1])
    assert sender.send(*transfer(secret)).startswith(b"accepted")
    until(lambda: state_of(reception) == "arrived")
    image = reception.image
    assert (image.state, image.kind, image.method, image.approval) == ("requested", "physical", "medium", "")
    assert image.expected_sha256 == reception.sha256 == hashlib.sha256(DISK).hexdigest()
    assert (image.location, image.requested_by) == (str(reception.uuid), engineer)
    assert reception.inventory == {"maker": "x"}
    assert (place / "disk.raw").read_bytes() == DISK
    until(lambda: not medium_path(reception).exists())

    with pytest.raises(SeparationOfDuties):
        services.approve_image(image, actor=engineer, now=NOW)
    services.delete_image(image, actor=engineer, now=NOW)  # declined
    until(lambda: state_of(reception) == "done")
    assert not place.exists()


def test_a_host_that_is_started_again_expects_the_same_medium(desk, till, engineer):
    reception, secret = expected(till, engineer)
    until(lambda: state_of(reception) == "waiting")
    certificate = desk.folder / "incoming" / str(reception.uuid) / "receiver.pem"
    before = certificate.read_bytes()
    desk.end()
    again = Desk(desk.folder)
    try:
        sender = Sender(certificate)

        def is_accepted() -> bool:
            with suppress(OSError):
                return sender.send(*transfer(secret)).startswith(b"accepted")
            return False

        until(is_accepted)
        until(lambda: state_of(reception) == "arrived")
    finally:
        again.end()
    assert certificate.read_bytes() == before


def test_a_revoked_order_takes_nothing_more_and_leaves_nothing(desk, till, engineer):
    reception, secret = expected(till, engineer)
    until(lambda: state_of(reception) == "waiting")
    place = desk.folder / "incoming" / str(reception.uuid)
    sender = Sender(place / "receiver.pem")
    services.revoke_reception(reception, actor=engineer, now=NOW)
    until(lambda: DiskReception.objects.get().cleared_at)
    with pytest.raises(OSError, match="refused"):
        sender.send(*transfer(secret))
    assert not place.exists()
    assert not medium_path(reception).exists()
    assert not GoldenImage.objects.exists()


def test_what_a_machine_tells_of_itself_is_data_that_can_be_stored(desk, till, engineer):
    reception, secret = expected(till, engineer)
    until(lambda: state_of(reception) == "waiting")
    sender = Sender(desk.folder / "incoming" / str(reception.uuid) / "receiver.pem")
    inventory = '{"maker": "a\\u0000b", "x": NaN, "y": 1e999}'
    assert sender.send(*transfer(secret, inventory=inventory)).startswith(b"accepted")
    until(lambda: state_of(reception) == "arrived")
    assert reception.inventory == {}


def test_a_disk_with_another_checksum_than_was_announced_is_refused(desk, till, engineer):
    reception, secret = expected(till, engineer)
    DiskReception.objects.update(expected_sha256="0" * 64)
    until(lambda: state_of(reception) == "waiting")
    sender = Sender(desk.folder / "incoming" / str(reception.uuid) / "receiver.pem")
    sender.send(*transfer(secret))
    until(lambda: state_of(reception) == "error")
    assert "has the checksum" in reception.last_error
    assert not GoldenImage.objects.exists()
    until(lambda: DiskReception.objects.get().cleared_at)


def test_pages_order_show_and_hand_out_the_medium(client, till, engineer):
    client.force_login(engineer)
    answer = client.post(reverse("disk_order", args=[till.number]), {"reason": "A test.", "hours": "24"})
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    secret = answer.context["secret"]
    assert secret in answer.content.decode()
    reception = DiskReception.objects.get()
    page = reverse("disk_detail", args=[reception.number])
    shown = client.get(page).content.decode()
    assert secret not in shown
    assert "Download the medium" not in shown
    DiskReception.objects.update(state="waiting", medium_bytes=len(MEDIUM))
    medium_path(reception).write_bytes(MEDIUM)
    assert "Download the medium" in client.get(page).content.decode()
    medium = reverse("disk_medium", args=[reception.number])
    refused = client.post(medium, {"secret": "wrong"})
    assert (refused.status_code, "not the secret" in refused.content.decode()) == (400, True)
    download = client.post(medium, {"secret": secret})
    assert b"".join(download.streaming_content) == MEDIUM.replace(TOKEN_PLACE, secret.encode())
    assert client.post(reverse("disk_verb", args=[reception.number, "revoke"])).status_code == 302
    reception.refresh_from_db()
    assert reception.state == "revoked"


def test_a_page_takes_an_image_and_passes_it_on_to_be_checked(client, till, engineer):
    from django.core.files.uploadedfile import SimpleUploadedFile

    CopySource.objects.update(method="upload")
    client.force_login(engineer)
    form = reverse("disk_order", args=[till.number])
    for name in ("till.iso", "till.vmdk"):
        file = SimpleUploadedFile(name, DISK)
        answer = client.post(form, {"reason": "A test.", "file": file})
    assert answer.status_code == 302
    reception = DiskReception.objects.get()
    assert (reception.state, reception.format, reception.size) == ("checking", "vmdk", len(DISK))
    assert answer["Location"] == reverse("disk_detail", args=[reception.number])


def test_by_the_api_a_disk_is_ordered_uploaded_in_pieces_and_its_secret_is_shown_once(till, engineer):
    api = APIClient()
    api.force_authenticate(engineer)
    ordered = api.post("/api/v1/disks/", {"ci": till.number, "reason": "A test."}, format="json")
    assert (ordered.status_code, len(ordered.json()["secret"])) == (201, 43)
    number = ordered.json()["disk"]["number"]
    assert ordered.json()["secret"] not in api.get(f"/api/v1/disks/{number}/").content.decode()
    wrong = api.post(f"/api/v1/disks/{number}/medium/", {"secret": "x"}, format="json")
    assert wrong.status_code == 403
    assert api.post(f"/api/v1/disks/{number}/revoke/").json()["state"] == "revoked"

    CopySource.objects.update(method="upload")
    order = {"ci": till.number, "reason": "A test.", "filename": "till.raw", "size": len(DISK)}
    assert api.post("/api/v1/disks/", {**order, "gateway": "192.0.2.1"}, format="json").status_code == 400
    ordered = api.post("/api/v1/disks/", order, format="json").json()
    assert ordered["secret"] == ""
    address = f"/api/v1/disks/{ordered['disk']['number']}/content/"

    def send(offset: int, piece: bytes):
        return api.post(f"{address}?offset={offset}", piece, content_type="application/octet-stream")

    assert send(0, DISK[:1000]).json()["received_bytes"] == 1000
    assert send(0, DISK[:1000]).status_code == 409
    assert send(1000, DISK[1000:]).json()["state"] == "checking"
