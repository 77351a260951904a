"""Release notes: what a release brings and which trouble it ends, from its RFCs, their problems and incidents."""

import re
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from changes.models import Change
from incidents.models import Incident
from problems.models import Problem
from releases.models import Release

# More of each are counted, not named.
MOST = 200
_MARKUP = re.compile(r"([\\`*_\[\]<>#|~])")


def release_notes(release: Release, user: Any) -> str:
    """The notes as markdown, as this person may read them: tickets that he may not see are not named.

    Root causes and workarounds stand in it where they are published as a known error. Four statements.
    """
    versions = release.items.select_related("version__product").order_by("position")
    lines = [f"# {release.number} {_plain(release.title)}", ""]
    lines += _section(_("Versions"), [f"- {_plain(str(item.version))}" for item in versions])
    changes = Change.objects.visible_to(user).filter(releases=release).order_by("pk")
    lines += _section(_("Changes"), [_line(change) for change in changes[: MOST + 1]])
    behind = Problem.objects.visible_to(user).filter(changes__releases=release).distinct().order_by("pk")
    problems: list[str] = []
    for problem in behind[: MOST + 1]:
        text = [_line(problem)]
        if problem.is_known_error and problem.root_cause:
            text.append(f"  - {_('Root cause:')} {_plain(problem.root_cause)}")
        if problem.is_known_error and problem.workaround:
            text.append(f"  - {_('Workaround until then:')} {_plain(problem.workaround)}")
        problems.append("\n".join(text))
    lines += _section(_("Problems"), problems)
    ended = Q(problems__changes__releases=release) | Q(changes__releases=release)
    incidents = Incident.objects.visible_to(user).filter(ended).distinct().order_by("pk")
    lines += _section(_("Incidents"), [_line(incident) for incident in incidents[: MOST + 1]])
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    more = [f"- {_('and more')}"] if len(entries) > MOST else []
    return [f"## {title}", "", *entries[:MOST], *more, ""]


def _line(ticket: Any) -> str:
    return f"- {ticket.number} {_plain(ticket.title)}"


def _plain(text: str) -> str:
    """Text from people in one line, without any meaning as markdown."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
