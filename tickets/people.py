"""Finding people by name: who may look for them, how a field writes them and reads them back."""

import re
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

# Whoever works with all incidents or all configuration items names people in his work.
RIGHTS = ("incidents.see_all_incidents", "cmdb.see_all_cis")
MOST_HITS = 20
MOST_WORDS = 8
_USERNAME = re.compile(r"\(([^()\s]+)\)\s*$")


def may_look_for_people(user: Any) -> bool:
    """Others see only the people on their own tickets."""
    return user is not None and any(user.has_perm(right) for right in RIGHTS)


def having_name(text: str) -> QuerySet[Any]:
    """The people who can sign in and have every word of the text in a name, by user name; all of them for no word."""
    rows = get_user_model().objects.filter(is_active=True, is_service_account=False)
    for word in re.sub(r"[()\0]", " ", text).split()[:MOST_WORDS]:
        rows = rows.filter(
            Q(username__icontains=word) | Q(first_name__icontains=word) | Q(last_name__icontains=word)
            | Q(email__istartswith=word)
        )  # fmt: skip
    return rows.order_by("username")


def written(person: Any) -> str:
    """A person as a field shows him: `Dana Desk (desk)`; the user name alone where he has no other."""
    return f"{person.label} ({person.username})" if person.label != person.username else str(person.username)


def person_named(text: str, *, asked_by: Any) -> Any:
    """The one person whom the text names: as `written`, by user name, or by a part of his names; else None."""
    if not may_look_for_people(asked_by):
        return None
    found = _USERNAME.search(text)
    username = found.group(1) if found else text.strip().replace("\0", "")
    exact = having_name("").filter(username__iexact=username)[:2]
    rows = list(exact) or list(having_name(text)[:2])
    return rows[0] if len(rows) == 1 else None
