"""Notices in the outbox, and mails in a folder."""

from email import message_from_bytes, policy

import pytest
from django.core.mail import EmailMessage

from notifications.mail import message_id
from notifications.mailfolder import EmailBackend
from notifications.models import Outbox
from notifications.services import mark_read, notify, send_notifications
from notifications.tasks import send_notifications as tick
from tests.factories import NOW, make_user

pytestmark = pytest.mark.django_db


def tell(recipient, event="e", thread="CI-0000001", subject="hello", text="text") -> bool:
    return notify(event=event, recipient=recipient, thread=thread, subject=subject, text=text, now=NOW)


def test_an_event_tells_a_person_once_in_each_thread():
    rita, tom = make_user("rita"), make_user("tom")
    assert tell(rita)
    assert not tell(rita, text="other words")
    assert tell(rita, thread="CI-0000002")
    assert tell(tom)
    assert Outbox.objects.count() == 3


@pytest.mark.parametrize(("email", "is_active"), [("", True), ("gone@example.org", False)])
def test_who_gets_no_mail_has_the_notice_in_the_portal(email, is_active):
    user = make_user("u", email=email, is_active=is_active)
    assert tell(user)
    assert Outbox.objects.get().state == Outbox.State.PORTAL_ONLY
    assert send_notifications(now=NOW) == 0


@pytest.mark.parametrize("field", ["event", "thread", "subject"])
@pytest.mark.parametrize("character", ["\r", "\n", "\0"])
def test_headers_refuse_line_breaks(field, character):
    with pytest.raises(ValueError, match="one line"):
        tell(make_user("rita"), **{field: f"a{character}Bcc: all@example.org"})
    assert not Outbox.objects.exists()


def test_a_long_subject_is_cut_and_tagged_once():
    rita = make_user("rita")
    tell(rita, subject="x" * 300)
    tell(rita, event="f", subject="[CI-0000001] done")
    assert sorted(len(row.subject) for row in Outbox.objects.all()) == [17, 200]


def test_reading_marks_only_ones_own_notices():
    rita, tom = make_user("rita"), make_user("tom")
    tell(rita), tell(rita, event="f"), tell(tom)
    one = Outbox.objects.filter(recipient=rita).first()
    assert mark_read(tom, now=NOW, ids=[one.pk]) == 0
    assert mark_read(rita, now=NOW, ids=[one.pk]) == 1
    assert mark_read(rita, now=NOW) == 1
    assert mark_read(rita, now=NOW) == 0


def test_mails_land_in_the_folder_and_a_repeat_overwrites(settings, tmp_path):
    settings.EMAIL_BACKEND = "notifications.mailfolder.EmailBackend"
    settings.MAIL_FOLDER = tmp_path / "mail"
    tell(make_user("rita"), subject="Grüße", text="Schöne Grüße")
    tick()
    Outbox.objects.update(state="pending")
    tick()
    (path,) = settings.MAIL_FOLDER.iterdir()
    mail = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert mail["Subject"] == "[CI-0000001] Grüße"
    assert "Schöne Grüße" in mail.get_body(("plain",)).get_content()


def test_a_message_id_never_leaves_the_folder(settings, tmp_path):
    settings.MAIL_FOLDER = tmp_path / "mail"
    EmailBackend().send_messages([EmailMessage("s", "b", to=["a@example.org"], headers={"Message-ID": "<../../x>"})])
    assert [p.parent for p in tmp_path.rglob("*.eml")] == [settings.MAIL_FOLDER]


def test_message_ids_depend_on_every_part_of_the_key_and_stay_valid(settings):
    settings.MESSAGE_ID_DOMAIN = "::1"
    ids = {message_id(*key) for key in [("a", 1, "b"), ("a", 1, "c"), ("a", 2, "b"), ("b", 1, "b")]}
    assert len(ids) == 4
    assert all(i.count("@") == 1 and ":" not in i for i in ids)
