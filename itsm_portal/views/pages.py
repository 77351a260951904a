"""Pages of reference: the activity matrix, the style guide, the mail folder."""

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import nh3
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.views.generic import View

from itsm_portal import styleguide
from tickets.activities import MATRIX, Activity, Process
from tickets.text import TAGS
from tickets.views import PortalPage

MOST_MAILS = 200


class ActivityMatrix(PortalPage, View):
    """Which process handles which maintenance activity."""

    section = "activity_matrix"

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = [(activity, [(process, process in MATRIX[activity]) for process in Process]) for activity in Activity]
        context = self.get_context_data(
            title=_("Activity matrix"),
            breadcrumbs=[{"label": _("Activity matrix")}],
            rows=rows,
            processes=list(Process),
        )
        return render(request, "portal/activity_matrix.html", context)


class StaffPage(PortalPage, View):
    def is_permitted(self, user: Any) -> bool:
        return bool(user.is_staff)


class StyleGuide(StaffPage):
    """Every component in every state, for those who build pages."""

    section = "styleguide"

    def get(self, request: HttpRequest) -> HttpResponse:
        icons = (settings.BASE_DIR / "frontend" / "icons.txt").read_text().split()
        context = self.get_context_data(
            title=_("Style guide"),
            breadcrumbs=[{"label": _("Style guide")}],
            icons=icons,
            **styleguide.context(request.user),
        )
        return render(request, "styleguide/styleguide.html", context)


class Mailbox(StaffPage):
    """The mails that development and demo write into a folder."""

    section = "mailbox"

    def get(self, request: HttpRequest, name: str = "") -> HttpResponse:
        folder = settings.MAIL_FOLDER
        if folder is None:
            raise Http404
        files = mail_files(folder)
        if name:
            chosen = next((path for path in files if path.name == name), None)
            if chosen is None:
                raise Http404
            return self.show_mail(request, chosen)
        query = request.GET.get("q", "").strip().lower()
        mails = [headers(path) for path in files[:MOST_MAILS]]
        if query:
            mails = [mail for mail in mails if query in f"{mail['to']} {mail['subject']}".lower()]
        context = self.get_context_data(
            title=_("Mail folder"),
            breadcrumbs=[{"label": _("Mail folder")}],
            mails=mails,
            total=len(files),
            query=query,
        )
        return render(request, "portal/mailbox.html", context)

    def show_mail(self, request: HttpRequest, path: Path) -> HttpResponse:
        message = parse(path)
        text, html = message.get_body(("plain",)), message.get_body(("html",))
        shown = nh3.clean(html.get_content(), tags=TAGS, url_schemes={"http", "https", "mailto"}) if html else ""
        context = self.get_context_data(
            title=message.get("Subject", ""),
            breadcrumbs=[{"label": _("Mail folder"), "url": ".."}, {"label": path.name}],
            headers=[
                (key, message.get(key, "")) for key in ("From", "To", "Subject", "Date", "Message-ID", "References")
            ],
            text=text.get_content() if text else "",
            html=mark_safe(shown),  # noqa: S308 - cleaned above
        )
        return render(request, "portal/mail.html", context)


def mail_files(folder: Path) -> list[Path]:
    """The mails of the folder, newest first; nothing outside it."""
    if not folder.is_dir():
        return []
    return sorted(folder.glob("**/*.eml"), key=lambda path: path.stat().st_mtime, reverse=True)


def parse(path: Path) -> EmailMessage:
    with path.open("rb") as stream:
        message = email.message_from_binary_file(stream, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def headers(path: Path) -> dict[str, str]:
    """What the list shows of a mail."""
    message = parse(path)
    names = {"to": "To", "subject": "Subject", "date": "Date"}
    return {"name": path.name, **{key: str(message.get(name, "")) for key, name in names.items()}}
