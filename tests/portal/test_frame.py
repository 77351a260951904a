"""Appearance, probes, mail folder."""

import re
from email.message import EmailMessage
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse

from itsm_portal.views import health
from tests.factories import make_user
from tests.portal.test_every_page import login
from tickets.appearance import KINDS, STATES
from tickets.lifecycle import StatefulModel

ROOT = Path(settings.BASE_DIR)
APPS = ("releases", "changes", "problems", "incidents", "test_environments", "distribution", "cmdb", "software")


def test_every_state_has_a_tone_and_an_icon() -> None:
    for app in APPS:
        for model in apps.get_app_config(app).get_models():
            if issubclass(model, StatefulModel) and not model._meta.model_name.endswith("history"):
                for state in model.State.values:
                    assert state in STATES, f"{model.__name__}: {state}"


def test_the_sprite_has_every_icon_in_use_and_no_other() -> None:
    listed = set((ROOT / "frontend" / "icons.txt").read_text().split())
    used = {look.icon for look in STATES.values()} | set(KINDS.values()) | {"circle"}
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        used |= set(re.findall(r'{% icon "([\w-]+)"', text)) | set(re.findall(r' icon="([\w-]+)"', text))
    for path in [*ROOT.glob("*/views*.py"), *ROOT.glob("itsm_portal/*.py"), *ROOT.glob("*/templatetags/*.py")]:
        text = path.read_text()
        used |= set(re.findall(r'icon(?:=|\()"([\w-]+)"', text)) | set(re.findall(r'_list", "([\w-]+)"', text))
    navigation = (ROOT / "itsm_portal" / "navigation.py").read_text()
    used |= set(re.findall(r'Entry\([^,]+, "[\w:]+", "([\w-]+)"', navigation)) | {"info-circle"}
    assert used - listed == set()
    assert listed - used == set()


def test_the_lock_file_names_no_registry() -> None:
    text = (ROOT / "package-lock.json").read_text()
    assert "resolved" not in text
    assert "registry" not in text


def test_healthz_asks_nothing_of_the_database(client: Client, django_db_blocker) -> None:
    with django_db_blocker.block():
        assert client.get(reverse("healthz")).status_code == 200


@pytest.mark.django_db
def test_readyz_looks_at_database_migrations_and_cache(client: Client, monkeypatch) -> None:
    assert client.get(reverse("readyz")).json()["checks"] == {"database": True, "migrations": True, "cache": True}
    monkeypatch.setattr(health, "_cache", lambda: False)
    assert client.get(reverse("readyz")).status_code == 503


@pytest.mark.django_db
def test_readyz_is_not_ready_while_a_migration_is_missing(client: Client, monkeypatch) -> None:
    monkeypatch.setattr(health, "_state", {"migrated": False})
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'tickets'")
    answer = client.get(reverse("readyz"))
    assert answer.status_code == 503
    assert answer.json()["checks"]["migrations"] is False


@pytest.mark.django_db
def test_the_mail_folder_shows_mails_without_their_scripts(settings, tmp_path: Path) -> None:
    settings.MAIL_FOLDER = tmp_path
    mail = EmailMessage()
    mail["Subject"], mail["To"], mail["From"] = "Resolved <b>", "uma@example.org", "portal@example.org"
    mail.set_content("It works again.")
    mail.add_alternative(
        "<p>It <em>works</em><script>alert(1)</script><img src=x onerror=alert(1)></p>", subtype="html"
    )
    (tmp_path / "1.eml").write_bytes(bytes(mail))
    (tmp_path.parent / "secret.eml").write_bytes(bytes(mail))
    client = login(make_user("ada", is_staff=True))
    assert "Resolved &lt;b&gt;" in client.get("/mailbox/").content.decode()
    text = client.get("/mailbox/1.eml/").content.decode()
    assert "It works again." in text
    assert "<em>works</em>" in text
    assert "alert(1)" not in text
    assert client.get("/mailbox/secret.eml/").status_code == 404
    settings.MAIL_FOLDER = None
    assert client.get("/mailbox/").status_code == 404
