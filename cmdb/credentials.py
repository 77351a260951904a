"""Secrets that open connections: encrypted in the database, with keys that only the environment holds.

The first key of `CREDENTIAL_KEYS` encrypts, all of them decrypt: put a new one in front, run
`manage.py rotate_credentials`, then take the old one away. A secret is never shown again; only a push run reads it.
"""

from datetime import datetime
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from cmdb.models import Credential
from tickets.exceptions import ConditionRefused, InvalidInput
from tickets.lifecycle import check_permission

MAX_SECRET = 16 * 1024
MANAGE = "cmdb.change_credential"


def set_secret(credential: Credential, *, secret: str, actor: Any, now: datetime) -> None:
    """Keeps the secret, encrypted; saves a new credential, too. Refuses what is no usable key or password."""
    check_permission(actor, MANAGE, _("set credentials"))
    text = check_secret(credential.kind, secret)
    credential.sealed = _box().encrypt(text.encode()).decode()
    credential.changed_at = now
    credential.save()


def check_secret(kind: str, secret: str) -> str:
    """The secret as it is kept. Refuses what is no key or password, and everything while there is no key to keep it."""
    _box()
    return _clean_key(secret) if kind == Credential.Kind.SSH_KEY else _clean_password(secret)


def reveal(credential: Credential) -> str:
    """The secret, for a push run. Raises `ConditionRefused` when no key of the environment opens it."""
    try:
        return _box().decrypt(credential.sealed.encode()).decode()
    except InvalidToken:
        raise ConditionRefused(
            _("No key in CREDENTIAL_KEYS opens the credential “%(name)s”. Add the key or set the secret again.")
            % {"name": credential.name},
            code="credential_unreadable",
        ) from None


def rotate_credentials() -> int:
    """Encrypts every secret anew with the first key; how many. Stops at one that no key opens."""
    box = _box()
    with transaction.atomic():
        rows = list(Credential.objects.select_for_update().order_by("pk"))
        for row in rows:
            reveal(row)
            Credential.objects.filter(pk=row.pk).update(sealed=box.rotate(row.sealed.encode()).decode())
    return len(rows)


def check_host_keys(text: str) -> str:
    """The pinned public keys, one a line as `type base64`, without comments. Refuses anything else."""
    lines = []
    for line in filter(None, map(str.strip, text.splitlines())):
        words = " ".join(line.split()[:2])
        try:
            load_ssh_public_key(words.encode())
        except (ValueError, UnsupportedAlgorithm):
            text = _("This is no public host key: “%(line)s”. It looks like “ssh-ed25519 AAAA…”.") % {"line": line[:60]}
            raise InvalidInput(text, field="host_key") from None
        lines.append(words)
    return "\n".join(lines)


def _box() -> MultiFernet:
    if not settings.CREDENTIAL_KEYS:
        raise ConditionRefused(
            _("CREDENTIAL_KEYS is not set: without a key outside the database no credential is kept."),
            code="credential_keys_missing",
        )
    return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])


def _clean_key(secret: str) -> str:
    """The private key in OpenSSH's format, without a passphrase: nobody is there to type it."""
    raw = secret.replace("\r\n", "\n").strip().encode()[: MAX_SECRET + 1] + b"\n"
    load = load_ssh_private_key if b"OPENSSH" in raw[:80] else load_pem_private_key
    try:
        key: Any = load(raw, password=None)
        return str(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        text = _("This is no private SSH key without a passphrase. Make one: ssh-keygen -t ed25519 -N ''")
        raise InvalidInput(text, field="secret") from None


def _clean_password(secret: str) -> str:
    if not 0 < len(secret) <= 256 or not secret.isprintable():
        raise InvalidInput(_("A password has 1 to 256 printable characters on one line."), field="secret")
    return secret
