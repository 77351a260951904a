"""Known errors for everybody: what one reads before reporting an incident; title and workaround, nothing else."""

import re
from datetime import datetime
from typing import Any

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.utils.translation import gettext as _

from accounts import language
from problems.models import Problem
from tickets.exceptions import ConditionRefused
from tickets.lifecycle import check_permission
from tickets.models import EntryKind
from tickets.searching import CONFIG, MOST_WORDS
from tickets.services import record

REPORT = "incidents.report_incident"
# Shorter words stand in every second title; VPN, SAP and ERP are among the ones that help.
SHORTEST = 3
MOST = 5


def known_errors(user: Any, text: str = "", *, most: int = MOST) -> list[Problem]:
    """The newest published known errors; with a text those that share most with it. Nobody's who may not report."""
    rows = Problem.objects.published_to(user).only("id", "title", "workaround", "state")
    if not text.strip():
        return list(rows.order_by("-pk")[:most])
    words = [word for word in re.findall(r"\w+", text) if len(word) >= SHORTEST][:MOST_WORDS]
    if not words:
        return []
    query = SearchQuery(" | ".join(f"{word}:*" for word in words), config=CONFIG, search_type="raw")
    vector = SearchVector("title", config=CONFIG)
    found = rows.annotate(words_of=vector, likeness=SearchRank(vector, query)).filter(words_of=query)
    return list(found.order_by("-likeness", "-pk")[:most])


def workaround_helped(problem: Problem, *, actor: Any, now: datetime) -> bool:
    """Somebody could go on with the workaround and reported nothing: noted on the problem, once for each person."""
    check_permission(actor, REPORT, _("report incidents"))
    if not Problem.objects.published_to(actor).filter(pk=problem.pk).exists():
        raise ConditionRefused(_("%(number)s is no known error any more.") % {"number": problem.number})
    text = language.gettext("The workaround helped %(who)s, who reported no incident.") % {"who": actor}
    key = f"helped:{actor.pk}"
    return record(problem, kind=EntryKind.SYSTEM, actor=None, now=now, text=text, public=False, key=key)
