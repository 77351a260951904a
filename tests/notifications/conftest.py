"""The mail server of these tests."""

import pytest

from tests.notifications import smtp


@pytest.fixture
def port(settings) -> int:
    """Where `smtp.mail_server` has to listen; until then nobody answers there."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", smtp.free_port(), 5
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.PORTAL_URL = "https://portal.example.org"
    settings.MESSAGE_ID_DOMAIN = "portal.example.org"
    return settings.EMAIL_PORT
