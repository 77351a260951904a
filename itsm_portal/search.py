"""What the search finds: numbers in any spelling, titles, CIs, versions, people; only what the person may see.

Each kind costs at most two queries, whatever the number of rows: words by full text (the beginnings of words, newest
first), and where that finds too little, parts of words by trigrams.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db.models import Case, QuerySet, Value, When
from django.urls import reverse
from django.utils.translation import gettext as _

from changes.models import Change
from cmdb.models import CIGroup, ConfigurationItem
from incidents.models import Incident
from problems.models import Problem
from releases.models import Release, Rollout
from software.models import Product, Version
from test_environments.models import GoldenImage, TestEnvironment
from tickets.appearance import KINDS
from tickets.links import page_of_object
from tickets.numbers import parse_number
from tickets.people import having_name
from tickets.searching import CONFIG, MOST_WORDS, SHORTEST_PART, having_words

NUMBERED: tuple[Any, ...] = (
    Incident, Problem, Change, Release, Rollout, ConfigurationItem, CIGroup, TestEnvironment, GoldenImage,
)  # fmt: skip
TICKETS: tuple[Any, ...] = (Incident, Problem, Change, Release)
SHORTEST = 2
# Of a word that more rows have, the newest are near the end of the table.
COMMON = 2_000
# People are found by those who work with all their tickets.
SEES_PEOPLE = "incidents.see_all_incidents"


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that was found. `instance` has a state where `has_state`."""

    url: str
    icon: str
    number: str
    title: str
    instance: Any
    has_state: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """What was found of one kind; `more_url` is the list with all of it."""

    label: str
    hits: list[Hit]
    more_url: str = ""


def by_number(text: str, user: Any) -> Any:
    """The visible object with this number."""
    number = parse_number(text)
    if number is None:
        return None
    model = next((model for model in NUMBERED if number[0] == model.PREFIX), None)
    return model.objects.visible_to(user).filter(pk=number[1]).first() if model else None


def by_words(text: str, user: Any, *, most: int) -> list[Group]:
    """At most `most` of each kind; kinds of which nothing is found are left out."""
    if len(text) < SHORTEST:
        return []
    found = [_tickets(model, text, user, most) for model in TICKETS]
    found += [_cis(text, user, most), _software(text, most)]
    if user.has_perm(SEES_PEOPLE):
        found.append(_people(text, most))
    return [group for group in found if group.hits]


def _tickets(model: Any, text: str, user: Any, most: int) -> Group:
    rows = model.objects.visible_to(user)
    name = str(model._meta.verbose_name_plural)
    url = reverse(f"{model._meta.model_name}_list")
    found = _newest(rows, "title", text, most)
    return Group(name[:1].upper() + name[1:], [hit(row) for row in found], f"{url}?scope=all&q={quote_plus(text)}")


def _cis(text: str, user: Any, most: int) -> Group:
    rows = ConfigurationItem.objects.visible_to(user).production()
    found = _newest(rows, "name", text, most)
    return Group(_("Configuration items"), [hit(ci) for ci in found], f"{reverse('ci_list')}?q={quote_plus(text)}")


def _software(text: str, most: int) -> Group:
    products = list(having_words(Product.objects.all(), "name", text).order_by("name")[:most])
    versions = Version.objects.filter(label__istartswith=text.strip()).select_related("product").order_by("-pk")
    found = [*products, *versions[: max(1, most - len(products))]]
    return Group(_("Software library"), [hit(row) for row in found], f"{reverse('product_list')}?q={quote_plus(text)}")


def _people(text: str, most: int) -> Group:
    url = f"{reverse('incident_list')}?scope=all&requester="
    hits = [
        Hit(url + quote_plus(person.username), "user", "", person.label, person) for person in having_name(text)[:most]
    ]
    return Group(_("People, with their incidents"), hits)


def hit(row: Any) -> Hit:
    """How something that was found is shown."""
    title = getattr(row, "title", "") or getattr(row, "name", "") or str(row)
    icon = KINDS.get(row._meta.model_name, "circle")
    return Hit(page_of_object(row), icon, getattr(row, "number", ""), title, row, hasattr(row, "get_state_display"))


def _newest(rows: QuerySet[Any], field: str, text: str, most: int) -> list[Any]:
    """The newest rows whose field has words that begin so; where they are few, then those that have the parts anywhere.

    They are not asked for in order at first: for a rare word the database would go through all rows from the newest on,
    which is the shortest way only for a common one.
    """
    words = re.findall(r"\w+", text)[:MOST_WORDS]
    keys: list[int] = []
    if words:
        query = " & ".join(f"{word}:*" if len(word) >= SHORTEST_PART else word for word in words)
        matching = SearchQuery(query, config=CONFIG, search_type="raw")
        beginning = rows.annotate(words_of=SearchVector(field, config=CONFIG)).filter(words_of=matching).order_by()
        keys = list(beginning.values_list("pk", flat=True)[: COMMON + 1])
        if len(keys) > COMMON:
            return list(beginning.order_by("-pk")[:most])
    newest = sorted(keys, reverse=True)[:most]
    wanted = rows.filter(pk__in=newest).values("pk")
    if len(newest) < most and any(len(word) >= SHORTEST_PART for word in text.split()):
        wanted = wanted.union(having_words(rows, field, text).order_by().values("pk")[:COMMON])
    first = Case(When(pk__in=newest, then=0), default=1) if newest else Value(0)
    return list(rows.filter(pk__in=wanted).order_by(first, "-pk")[:most])
