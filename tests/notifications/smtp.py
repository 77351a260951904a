"""A real mail server inside the test, which can be told to refuse."""

import socket
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from django.core.mail.backends import smtp


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Inbox:
    """Keeps what it accepts; `refusals` maps an address to the answer that it gets instead."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refusals: dict[str, str] = {}

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def mail_server(port: int):
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield inbox
    finally:
        controller.stop()


class KilledError(BaseException):
    """The worker is gone: no handler of the portal sees this."""


class DyingBackend(smtp.EmailBackend):
    """The server takes the mail, and then the worker dies before it can write that down."""

    def send_messages(self, email_messages):
        super().send_messages(email_messages)
        raise KilledError
