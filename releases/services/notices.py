"""What people read when a rollout ends: in the ticket and by mail, in their language."""

import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.utils import translation
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from notifications.kinds import Kind
from notifications.models import Outbox
from notifications.services import notify
from releases.models import Rollout


def _kept(rollout: Rollout, name: str, make: Callable[[], str]) -> str:
    """A text that is the same for every reader, read once for each rollout in hand: owners come in thousands."""
    texts: dict[str, str] = rollout.__dict__.setdefault("_notice_texts", {})
    if name not in texts:
        texts[name] = make()
    return texts[name]


def package_text(rollout: Rollout) -> str:
    """The versions of the package: `Billing 2.1, Agent 1.4`."""

    def versions() -> str:
        return ", ".join(str(item.version) for item in rollout.release.items.select_related("version__product"))

    return _kept(rollout, "package", versions)


def told(rollout: Rollout, what: str, people: Iterable[int | None]) -> set[tuple[int, str]]:
    """Who of them has the notice that it is `completed` or `rolled_back` already, and in which thread."""
    rows = Outbox.objects.filter(event=_event(rollout, what), recipient__in=list(people))
    return set(rows.values_list("recipient", "thread"))


def _event(rollout: Rollout, what: str) -> str:
    return f"rollout:{rollout.pk}:{what}"


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


def _time_text(moment: datetime, person: Any) -> str:
    """A time as the reader writes it, in his own zone."""
    try:
        zone = zoneinfo.ZoneInfo(person.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        zone = zoneinfo.ZoneInfo("UTC")
    local = moment.astimezone(zone)
    return f"{date_format(local, 'DATETIME_FORMAT')} ({local.tzname()})"


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
            done = _time_text(rollout.finished_at or now, person)
            lines = [completed_text(rollout, cis), _("The rollout was completed on %s.") % done]
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
                cis=cis,
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
                cis=cis,
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
            _send(rollout, person, "rolled_back", subject, lines, thread=thread, path=path, now=now, cis=cis)


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
    cis: Sequence[str],
) -> None:
    address = f"/{path}/{thread}/"
    # The chain comes with the mail, as its reader may see it then.
    text = "\n\n".join(lines)
    notify(
        event=_event(rollout, what),
        recipient=person,
        thread=thread,
        subject=f"[{thread}] {subject}: {package_text(rollout)}",
        text=text,
        now=now,
        path=address,
        kind=Kind.FIX,
    )
