"""Writes what happens to a rollout: its own events, and the release's timeline for what people should read there."""

from datetime import datetime
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.language import portal_language
from releases.models import Rollout, RolloutEvent, Wave
from tickets.models import EntryKind
from tickets.services import record


@portal_language()
def log(
    rollout: Rollout,
    kind: str,
    *,
    now: datetime,
    text: str = "",
    actor: Any = None,
    wave: Wave | None = None,
    told: bool = True,
) -> None:
    """Writes one event; with `told` the release's timeline shows it, too."""
    RolloutEvent.objects.create(rollout=rollout, wave=wave, kind=kind, text=text, actor=actor, at=now)
    if told:
        label = RolloutEvent.Kind(kind).label
        where = f"{rollout.number}, {_name_of(wave)}" if wave else rollout.number
        record(
            rollout.release,
            kind=EntryKind.SYSTEM,
            actor=actor,
            now=now,
            text=f"{where}: {label}. {text}".strip(),
        )


def cis_text(count: int) -> str:
    """How many CIs, in words."""
    return ngettext("%(count)s CI", "%(count)s CIs", count) % {"count": number_format(count)}


def under_way_text(count: int) -> str:
    """How many CIs are waited for, in words."""
    text = ngettext("%(count)s CI is still under way", "%(count)s CIs are still under way", count)
    return text % {"count": number_format(count)}


def _name_of(wave: Wave) -> str:
    return _("rollback %d") % wave.number if wave.kind == Wave.Kind.ROLLBACK else _("wave %d") % wave.number


def wait_for(rollout: Rollout, text: str, now: datetime) -> bool:
    """Says why nothing moves; writes only when the reason is a new one. False: nothing was done."""
    text = text[:200]
    if rollout.waits_for != text:
        Rollout.objects.filter(pk=rollout.pk).update(waits_for=text, updated_at=now)
        rollout.waits_for = text
    return False
