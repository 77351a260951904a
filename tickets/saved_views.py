"""Views of lists that people keep: who sees them, how they are kept and forgotten."""

from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Team
from tickets.exceptions import InvalidInput
from tickets.forms import PortalForm
from tickets.models import SavedView

MOST_VIEWS = 50
# What says where in a list one is, not which list it is.
PASSING = ("after", "before", "export", "csrfmiddlewaretoken")


def query_text(parameters: QueryDict) -> str:
    """The filters, order and columns of an address, always written in the same way."""
    pairs = sorted((name, value) for name, values in parameters.lists() for value in values if value)
    query = QueryDict(mutable=True)
    for name, value in pairs:
        if name not in PASSING:
            query.appendlist(name, value)
    return query.urlencode()


def views_for(user: Any, page: str) -> QuerySet[SavedView]:
    """One's own views of a list, and those that others share with one's teams."""
    teams = Team.members.through.objects.filter(user_id=user.pk).values("team_id")
    return SavedView.objects.filter(Q(owner=user) | Q(team__in=teams), page=page).select_related("team")


def keep_view(*, actor: Any, page: str, name: str, query: str, team: Team | None = None) -> SavedView:
    """Keeps a view under a name, in the place of an own one of that name.

    Refuses (`InvalidInput`) a page that is no list, a team of others, and more than `MOST_VIEWS` of one person.
    """
    try:
        address = reverse(page)
    except NoReverseMatch:
        address = ""
    if not page.endswith("_list") or not address:
        raise InvalidInput(_("Views are kept of lists only."), field="page")
    if team is not None and not team.members.filter(pk=actor.pk).exists():
        raise InvalidInput(_("Share it with a team that you belong to."), field="team")
    query = query_text(QueryDict(query))
    if len(query) > (SavedView._meta.get_field("query").max_length or 0):
        raise InvalidInput(_("So many filters cannot be kept. Take some away."), field="query")
    others = SavedView.objects.filter(owner=actor).exclude(page=page, name=name)
    if others.count() >= MOST_VIEWS:
        raise InvalidInput(_("You keep %(most)d views. Forget one first.") % {"most": MOST_VIEWS}, field="name")
    values = {"query": query, "team": team}
    view, _is_new = SavedView.objects.update_or_create(owner=actor, page=page, name=name, defaults=values)
    return view


def forget_view(view: SavedView, *, actor: Any) -> None:
    """Forgets an own view; refuses one of somebody else with `InvalidInput`."""
    if view.owner_id != actor.pk:
        raise InvalidInput(_("Only who keeps a view may forget it."))
    view.delete()


class SavedViewForm(PortalForm):
    """Keeps the list that one looks at."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=60)
    team = forms.ModelChoiceField(
        Team.objects.none(), label=gettext_lazy("Share with"), required=False, empty_label=gettext_lazy("only me")
    )
    page = forms.CharField(max_length=64, widget=forms.HiddenInput)
    query = forms.CharField(max_length=1000, required=False, widget=forms.HiddenInput)

    def prepare(self) -> None:
        self.fields["team"].queryset = Team.objects.filter(members=self.user)  # type: ignore[attr-defined]
