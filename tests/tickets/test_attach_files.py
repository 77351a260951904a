"""Files on tickets: sent with a comment, kept when it is refused, fetched only to be saved, removed with a trace."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from changes.models import Change
from incidents.models import Incident
from incidents.services import close_incident, report_incident
from notifications.models import Outbox
from problems.models import Problem
from releases.models import Release
from tests.factories import NOW, make_user
from tickets.attachments import forget_files, receive, safe_name, storage
from tickets.content_types import HEAD, content_type_of
from tickets.models import Attachment
from tickets.services import create_ticket

pytestmark = pytest.mark.django_db
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"></svg>'


@pytest.fixture(autouse=True)
def folder(tmp_path, settings) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


@pytest.fixture
def desk():
    return make_user("desk", "service desk")


@pytest.fixture
def uma():
    return make_user("uma", "requester")


@pytest.fixture
def incident(uma) -> Incident:
    return report_incident(actor=uma, now=NOW, title="Printer burns")


def sign_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def upload(name: str = "shot.png", content: bytes = PNG) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type="image/svg+xml")


def comment(user, ticket, *files, folder: str = "incidents", **values):
    values = {"text": "See here", "public": "1", "files": list(files), **values}
    return sign_in(user).post(f"/{folder}/{ticket.number}/comment/", values)


def files_on(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_comment_brings_its_files_and_tells_their_names_and_addresses(desk, uma, incident, folder) -> None:
    assert comment(desk, incident, upload(), upload("log.txt", b"it burns\n")).status_code == 302
    picture, log = Attachment.objects.all()
    assert (picture.content_type, log.content_type) == ("image/png", "text/plain")
    assert picture.sha256 == hashlib.sha256(PNG).hexdigest()
    assert sorted(path.read_bytes() for path in files_on(folder)) == sorted([PNG, b"it burns\n"])
    assert not [path for path in files_on(folder) if "shot" in path.name or "log" in path.name]
    page = sign_in(uma).get(f"/incidents/{incident.number}/").content.decode()
    address = f"/tickets/{incident.number}/files/{picture.pk}/"
    assert f'<img src="{address}"' in page
    assert f'<img src="/tickets/{incident.number}/files/{log.pk}/' not in page
    assert f"{settings.PORTAL_URL}{address}" in Outbox.objects.get(recipient=uma, thread=incident.number).text
    # A file alone says enough; nothing at all does not.
    assert comment(uma, incident, upload("more.png"), text="").status_code == 302
    assert comment(uma, incident, text="").status_code == 400


@pytest.mark.parametrize(
    ("model", "folder_of"), [(Problem, "problems"), (Change, "changes"), (Release, "releases")], ids=str
)
def test_every_kind_of_ticket_takes_files_and_hides_them_with_it(model, folder_of, uma) -> None:
    values = {"last_editor": uma} if model in (Change, Release) else {}
    ticket = create_ticket(model, actor=uma, now=NOW, title="About it", **values)
    assert comment(uma, ticket, upload(), folder=folder_of).status_code == 302
    address = f"/tickets/{ticket.number}/files/{Attachment.objects.get().pk}/"
    assert sign_in(uma).get(address).status_code == 200
    assert sign_in(make_user("otto", "requester")).get(address).status_code == 404
    assert sign_in(make_user("otto2", "requester")).post(f"{address}remove/").status_code == 404


def test_a_file_of_an_internal_note_is_as_internal_as_the_note(desk, uma, incident) -> None:
    comment(desk, incident, upload("secret.png"), public="0")
    key = Attachment.objects.get().pk
    address = f"/tickets/{incident.number}/files/{key}/"
    assert sign_in(desk).get(address).status_code == 200
    assert sign_in(uma).get(address).status_code == 404
    assert "secret.png" not in sign_in(uma).get(f"/incidents/{incident.number}/").content.decode()
    assert not Outbox.objects.filter(recipient=uma, text__contains="secret.png").exists()
    # Nor by the address of another ticket that he sees, nor by the API.
    other = report_incident(actor=uma, now=NOW, title="Another one")
    assert sign_in(uma).get(f"/tickets/{other.number}/files/{key}/").status_code == 404
    client = APIClient()
    client.force_authenticate(uma)
    assert client.get(f"/api/v1/incidents/{incident.pk}/attachments/").json()["results"] == []
    assert client.get(f"/api/v1/incidents/{incident.pk}/attachments/{key}/").status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("shot.png", PNG, "image/png"),
        ("shot.png", SVG, "application/octet-stream"),
        ("shot.png", b"<html><script>alert(1)</script>", "application/octet-stream"),
        ("page.html", PNG, "image/png"),
    ],
)
def test_a_file_is_saved_and_never_shown_as_a_page(name, content, kind, uma, incident) -> None:
    comment(uma, incident, upload(name, content))
    response = sign_in(uma).get(f"/tickets/{incident.number}/files/{Attachment.objects.get().pk}/")
    assert b"".join(response.streaming_content) == content
    assert response["Content-Type"] == kind
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert "private" in response["Cache-Control"]


def test_who_has_a_picture_already_gets_it_again_only_while_he_may(desk, uma, incident) -> None:
    comment(uma, incident, upload())
    attachment = Attachment.objects.get()
    address, tag = f"/tickets/{incident.number}/files/{attachment.pk}/", f'"{attachment.sha256}"'
    assert sign_in(uma).get(address, headers={"If-None-Match": tag}).status_code == 304
    Incident.objects.update(requester=desk, created_by=desk)
    assert sign_in(uma).get(address, headers={"If-None-Match": tag}).status_code == 404


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("in\r\nvoice\x00\u202egnp.exe", "invoicegnp.exe"),
        ("...", "file"),
        ('a"b<c>.png', "a b c .png"),
        ("x" * 300 + ".png", "x" * 116 + ".png"),
    ],
)
def test_a_hostile_name_is_only_a_name(said, kept) -> None:
    assert safe_name(said) == kept


def test_text_is_told_from_bytes_also_where_the_first_part_ends_within_a_character() -> None:
    assert content_type_of(("a" * (HEAD - 1) + "ü").encode()[:HEAD]) == "text/plain"
    assert content_type_of(b"RIFF\0\0\0\0WEBPVP8 ") == "image/webp"
    assert content_type_of(b"\xfftext") == "application/octet-stream"


def test_a_refused_comment_loses_no_file(uma, incident, settings) -> None:
    settings.ATTACHMENT_MAX_BYTES = 100
    page = comment(uma, incident, upload(), upload("large.bin", b"x" * 101))
    assert page.status_code == 400
    assert "large.bin is larger than 100" in page.content.decode().replace("\xa0", " ")
    kept = Attachment.objects.get()
    assert f'name="kept" value="{kept.pk}" checked' in page.content.decode()
    assert "See here" in page.content.decode()
    # It goes along without being chosen again; a stranger cannot send it.
    otto = make_user("otto", "requester")
    foreign = report_incident(actor=otto, now=NOW, title="Mine")
    comment(otto, foreign, kept=[kept.pk])
    assert foreign.entries.filter(attachments=kept).count() == 0
    assert comment(uma, incident, kept=[kept.pk, "nonsense", str(2**80)]).status_code == 302
    entry = incident.entries.get(kind="comment")
    assert list(entry.attachments.all()) == [kept]
    # Nor twice.
    comment(uma, incident, text="again", kept=[kept.pk])
    assert incident.entries.filter(attachments=kept).count() == 1


def test_a_refusal_of_the_domain_keeps_the_files_too(desk, uma, incident) -> None:
    Incident.objects.update(state="resolved", resolved_at=NOW)
    incident.refresh_from_db()
    close_incident(incident, actor=desk, now=NOW)
    page = comment(uma, incident, upload())
    assert page.status_code == 409
    assert f'name="kept" value="{Attachment.objects.get().pk}" checked' in page.content.decode()


def test_what_is_announced_as_too_much_is_refused_unread(uma, incident, settings) -> None:
    settings.ATTACHMENT_MAX_BYTES = 10

    class Unread:
        def read(self, *_size: int) -> bytes:
            raise AssertionError("it was read")

        readline = read

    client = sign_in(uma)
    answer = client.generic(
        "POST", f"/incidents/{incident.number}/comment/", b"", content_type="multipart/form-data; boundary=x",
        CONTENT_LENGTH=str(2 * 1024 * 1024), **{"wsgi.input": Unread()},
    )  # fmt: skip
    assert answer.status_code == 413


def test_a_requester_reports_with_a_file(uma) -> None:
    answer = sign_in(uma).post(
        "/incidents/new/",
        {"title": "It burns", "impact": "low", "urgency": "low", "files": [upload()]},
    )
    incident = Incident.objects.get()
    assert answer["Location"] == f"/incidents/{incident.number}/"
    assert incident.entries.get().attachments.get().name == "shot.png"


def test_removing_leaves_a_trace_and_no_file(desk, uma, incident, folder) -> None:
    comment(desk, incident, upload())
    attachment = Attachment.objects.get()
    address = f"/tickets/{incident.number}/files/{attachment.pk}/"
    sign_in(uma).post(f"{address}remove/")
    assert incident.entries.filter(attachments=attachment).exists()
    sign_in(desk).post(f"{address}remove/")
    assert sign_in(desk).get(address).status_code == 404
    entry = incident.entries.latest("pk")
    assert (entry.author, entry.is_public) == (desk, True)
    assert "shot.png" in entry.text
    assert attachment.sha256 in entry.text
    assert forget_files(now=NOW) == 1
    assert files_on(folder) == []
    assert not Attachment.objects.exists()


def test_the_clean_up_takes_what_no_comment_came_for_and_nothing_else(uma, incident, folder) -> None:
    comment(uma, incident, upload("kept.png"))
    Attachment.objects.update(created_at=NOW)
    receive(upload("lost.png"), actor=uma, now=NOW)
    gone = receive(upload("vanished.png"), actor=uma, now=NOW)
    storage().delete(gone.file)
    fresh = receive(upload("fresh.png"), actor=uma, now=NOW + timedelta(hours=20))
    assert forget_files(now=NOW + timedelta(hours=25)) == 2
    assert {one.name for one in Attachment.objects.all()} == {"kept.png", fresh.name}
    assert len(files_on(folder)) == 2


def test_the_api_sends_lists_fetches_and_removes(uma, incident, folder) -> None:
    client = APIClient()
    client.force_authenticate(uma)
    address = f"/api/v1/incidents/{incident.pk}/attachments/"
    sent = client.post(address, {"file": upload()}, format="multipart")
    assert sent.status_code == 201
    ((key, name),) = [(file["id"], file["name"]) for file in sent.json()["attachments"]]
    assert name == "shot.png"
    assert [file["id"] for file in client.get(address).json()["results"]] == [key]
    newest = client.get(f"/api/v1/incidents/{incident.pk}/timeline/?newest_first=1").json()["results"][0]
    assert newest["attachments"][0]["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert b"".join(client.get(f"{address}{key}/").streaming_content) == PNG
    note = client.post(
        address, {"file": upload(), "public": "false"}, format="multipart", headers={"Idempotency-Key": "once"}
    )
    assert note.status_code == 403
    assert len(files_on(folder)) == 1
    assert client.delete(f"{address}{key}/").status_code == 204
    assert client.get(f"{address}{key}/").status_code == 404
    client.force_authenticate(make_user("otto", "requester"))
    assert client.post(address, {"file": upload()}, format="multipart").status_code == 404
