"""The frame's entries: what stands on the left, and what “New” offers to whom."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation; shown to those with `permission` (empty: to everybody)."""

    label: str | Promise
    url_name: str
    icon: str
    permission: str = ""


MAIN = (
    Entry(_("Home"), "home", "home"),
    Entry(_("Incidents"), "incident_list", "alert-triangle"),
    Entry(_("Problems"), "problem_list", "bug-off"),
    Entry(_("Changes"), "change_list", "git-pull-request"),
    Entry(_("Releases"), "release_list", "package"),
    Entry(_("Rollouts"), "rollout_list", "rocket"),
    Entry(_("Calendar"), "calendar", "calendar-event"),
    Entry(_("Configuration items"), "ci_list", "server"),
    Entry(_("Software library"), "product_list", "disc"),
    Entry(_("Test environments"), "environment_list", "flask", "test_environments.see_environments"),
    Entry(_("Reports"), "reports", "checklist", "incidents.see_all_incidents"),
    Entry(_("Activity matrix"), "activity_matrix", "table"),
    Entry(_("Operations"), "operations", "heartbeat", "releases.see_operations"),
)
NEW = (
    Entry(_("Incident"), "incident_create", "alert-triangle", "incidents.report_incident"),
    Entry(_("Problem"), "problem_create", "bug-off", "problems.open_problem"),
    Entry(_("Change"), "change_create", "git-pull-request", "changes.request_change"),
    Entry(_("Release"), "release_create", "package", "releases.build_release"),
    Entry(_("Configuration item"), "ci_create", "server", "cmdb.manage_cis"),
    Entry(_("Product"), "product_create", "disc", "software.manage_software"),
    Entry(_("Test environment"), "environment_create", "flask", "test_environments.manage_environments"),
)
STAFF = (
    Entry(_("Administration"), "admin:index", "settings"),
    Entry(_("Service tokens"), "service_tokens", "key", "accounts.manage_service_tokens"),
    Entry(_("Mail folder"), "mailbox", "mail"),
    Entry(_("Style guide"), "styleguide", "palette"),
)


def entries_for(user: Any, entries: tuple[Entry, ...]) -> list[Entry]:
    """The entries that this person may use."""
    return [entry for entry in entries if not entry.permission or user.has_perm(entry.permission)]


def staff_entries(user: Any) -> list[Entry]:
    """Pages for people who run the portal; the mail folder exists only where mails land in one."""
    if not user.is_staff:
        return []
    return [
        entry for entry in entries_for(user, STAFF) if entry.url_name != "mailbox" or settings.MAIL_FOLDER is not None
    ]
