"""Mails as files, for development and the demo: one `.eml` for each Message-ID in `settings.MAIL_FOLDER`."""

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage


def file_name(message_id: str) -> str:
    """A safe file name, the same for the same Message-ID: a repeated mail overwrites itself."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", message_id.strip("<> \t"))[:80]
    return f"{readable}-{hashlib.sha256(message_id.encode()).hexdigest()[:8]}.eml"


class EmailBackend(BaseEmailBackend):
    """Writes each mail completely or not at all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not settings.MAIL_FOLDER:
            raise ImproperlyConfigured("MAIL_FOLDER is not set: name a folder, or a mail server with EMAIL_URL.")
        self.folder = Path(settings.MAIL_FOLDER)

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        written = 0
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            if not message.recipients():
                continue
            mime = message.message()
            self._write(self.folder / file_name(str(mime["Message-ID"])), mime.as_bytes())
            written += 1
        return written

    def _write(self, path: Path, content: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
