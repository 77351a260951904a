"""What people read when a rollout ends: in the ticket and by mail, in their language, with the chain."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from notifications.services import notify
from releases.models import Rollout


def package_text(rollout: Rollout) -> str:
    """The versions of the package: `Billing 2.1, Agent 1.4`."""
    return ", ".join(str(item.version) for item in rollout.release.items.select_related("version__product"))


def completed_text(rollout: Rollout, cis: Sequence[str] = ()) -> str:
    """The entry of a ticket when the rollout has completed."""
    what = {"package": package_text(rollout), "release": rollout.release.number, "rollout": rollout.number}
    if cis:
        return _("%(package)s is installed on %(cis)s (%(release)s, %(rollout)s).") % {
            **what,
            "cis": ", ".join(cis),
        }
    return _("%(package)s is rolled out (%(release)s, %(rollout)s).") % what


def rolled_back_text(rollout: Rollout, cis: Sequence[str] = ()) -> str:
    """The entry of a ticket when the rollout was rolled back."""
    what = {"package": package_text(rollout), "release": rollout.release.number, "rollout": rollout.number}
    if cis:
        return _("%(package)s was rolled back, so %(cis)s runs the version of before (%(release)s, %(rollout)s).") % {
            **what,
            "cis": ", ".join(cis),
        }
    return _("%(package)s was rolled back (%(release)s, %(rollout)s).") % what


def _chain(rollout: Rollout, thread: str) -> str:
    """The line from the reader's ticket to the version, as text."""
    changes = ", ".join(change.number for change in rollout.release.changes.order_by("pk"))
    steps = [thread, changes, rollout.release.number, rollout.number, package_text(rollout)]
    return " → ".join(dict.fromkeys(step for step in steps if step))


def tell_completed(
    rollout: Rollout,
    people: Iterable[Any],
    *,
    thread: str,
    path: str,
    now: datetime,
    cis: Sequence[str] = (),
    is_resolved: bool = False,
) -> None:
    """Tells people once, in this thread, that the package is installed."""
    for person in people:
        with translation.override(person.language):
            lines = [completed_text(rollout, cis)]
            if is_resolved:
                lines.append(_("%s waited for this and is resolved now.") % thread)
                lines.append(_("Does the trouble go on? Open the ticket and choose “Reopen”."))
            _send(
                rollout,
                person,
                "completed",
                _("Your fix is installed"),
                lines,
                thread=thread,
                path=path,
                now=now,
            )


def tell_rolled_back(
    rollout: Rollout, people: Iterable[Any], *, thread: str, path: str, now: datetime, cis: Sequence[str] = ()
) -> None:
    """Tells people once, in this thread, that the package was taken back."""
    for person in people:
        with translation.override(person.language):
            lines = [
                rolled_back_text(rollout, cis),
                _("You will be told when a corrected version is installed."),
            ]
            _send(
                rollout,
                person,
                "rolled_back",
                _("A release was rolled back"),
                lines,
                thread=thread,
                path=path,
                now=now,
            )


def tell_not_back(
    rollout: Rollout, people: Iterable[Any], *, thread: str, path: str, now: datetime, cis: Sequence[str] = ()
) -> None:
    """Tells people once, in this thread, that the package was taken back elsewhere, but not from their CIs."""
    for person in people:
        with translation.override(person.language):
            lines = [
                rolled_back_text(rollout),
                _("%s could not be taken back and needs you.") % ", ".join(cis),
            ]
            subject = _("A rollback did not reach your CI")
            _send(rollout, person, "rolled_back", subject, lines, thread=thread, path=path, now=now)


def _send(
    rollout: Rollout,
    person: Any,
    what: str,
    subject: str,
    lines: list[str],
    *,
    thread: str,
    path: str,
    now: datetime,
) -> None:
    address = f"/{path}/{thread}/"
    text = "\n\n".join([*lines, _chain(rollout, thread), f"{settings.PORTAL_URL}{address}"])
    notify(
        event=f"rollout:{rollout.pk}:{what}",
        recipient=person,
        thread=thread,
        subject=f"[{thread}] {subject}: {package_text(rollout)}",
        text=text,
        now=now,
        path=address,
    )
