"""Credentials: encrypted with keys outside the database, never shown again, opened only by a push run."""

import io
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import Client
from django.urls import reverse

from cmdb.credentials import check_host_keys, reveal, set_secret
from cmdb.models import Credential
from tests.factories import NOW, make_user
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db
SECRET = "pa$$ {{ word }} ü"


@pytest.fixture
def credential() -> Credential:
    made = Credential(name="shops", kind=Credential.Kind.PASSWORD)
    set_secret(made, secret=SECRET, actor=None, now=NOW)
    return made


def new_key(folder: Path, *options: str) -> str:
    path = folder / f"key{len(list(folder.iterdir()))}"
    subprocess.run(["ssh-keygen", "-q", "-f", str(path), "-C", "", *options], check=True)
    return path.read_text()


def test_the_database_and_its_history_hold_no_secret(credential: Credential):
    credential.refresh_from_db()
    assert reveal(credential) == SECRET
    with connection.cursor() as cursor:
        for table in ("cmdb_credential", "cmdb_credentialhistory"):
            cursor.execute(f"SELECT t::text FROM {table} t")
            rows = cursor.fetchall()
            assert rows
            assert not any(SECRET in row[0] for row in rows)


def test_keys_are_rotated_and_the_old_one_can_go(credential: Credential, settings):
    old, new = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [new]
    with pytest.raises(ConditionRefused, match="CREDENTIAL_KEYS"):
        reveal(credential)
    with pytest.raises(CommandError, match="shops"):
        call_command("rotate_credentials")
    settings.CREDENTIAL_KEYS = [new, old]
    out = io.StringIO()
    call_command("rotate_credentials", stdout=out)
    settings.CREDENTIAL_KEYS = [new]
    credential.refresh_from_db()
    assert reveal(credential) == SECRET
    assert "1 credentials" in out.getvalue()


def test_without_a_key_nothing_is_kept(settings):
    settings.CREDENTIAL_KEYS = []
    with pytest.raises(ConditionRefused, match="outside the database"):
        set_secret(Credential(name="x", kind="password"), secret=SECRET, actor=None, now=NOW)
    assert not Credential.objects.exists()


@pytest.mark.parametrize("kind", [("-t", "ed25519"), ("-t", "ecdsa"), ("-t", "rsa", "-m", "PEM")])
def test_private_keys_of_every_usual_kind_are_taken(tmp_path: Path, kind: tuple[str, ...]):
    credential = Credential(name="key", kind=Credential.Kind.SSH_KEY)
    set_secret(credential, secret=new_key(tmp_path, *kind, "-N", ""), actor=None, now=NOW)
    assert reveal(credential).startswith("-----BEGIN OPENSSH PRIVATE KEY-----")


def test_what_cannot_be_used_is_refused(tmp_path: Path):
    locked = new_key(tmp_path, "-t", "ed25519", "-N", "with a passphrase")
    for kind, secret in (("ssh_key", "no key"), ("ssh_key", locked), ("password", ""), ("password", "two\nlines")):
        with pytest.raises(InvalidInput):
            set_secret(Credential(name="x", kind=kind), secret=secret, actor=None, now=NOW)
    with pytest.raises(PermissionRefused):
        set_secret(Credential(name="x", kind="password"), secret="x", actor=make_user("r", "operator"), now=NOW)


def test_only_public_host_keys_are_pinned(tmp_path: Path):
    new_key(tmp_path, "-t", "ed25519", "-N", "")
    public = next(tmp_path.glob("*.pub")).read_text().strip()
    words = public.split()[:2]
    assert check_host_keys(f"\n{public} a comment\n") == " ".join(words)
    for text in ("AAAA", f"@cert-authority {public}", f"* {public}", "ssh-ed25519 {{ x }}"):
        with pytest.raises(InvalidInput, match="public host key"):
            check_host_keys(text)


def test_the_admin_takes_a_secret_and_never_shows_it(credential: Credential):
    client = Client()
    client.force_login(make_user("adam", "administrator", is_staff=True))
    page = reverse("admin:cmdb_credential_change", args=[credential.pk])
    before = Credential.objects.get().sealed
    assert SECRET not in client.get(page).content.decode()
    assert before not in client.get(page).content.decode()

    client.post(page, {"name": "all shops", "kind": "password", "secret": ""})
    assert Credential.objects.get().sealed == before, "left empty, it stays"
    client.post(page, {"name": "all shops", "kind": "password", "secret": "another one"})
    assert reveal(Credential.objects.get()) == "another one"

    answer = client.post(page, {"name": "", "kind": "password", "secret": "typed beside an error"})
    assert "typed beside an error" not in answer.content.decode()
    answer = client.post(page, {"name": "all shops", "kind": "ssh_key", "secret": ""})
    assert "Give the secret" in answer.content.decode(), "a password is no key"
