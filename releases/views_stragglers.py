"""The page of a rollout's CIs that do not have it, with the reason of each."""

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy

from distribution.stragglers import Straggler, explain
from releases.live import stragglers_of
from releases.models import Rollout
from tickets.clock import now_of
from tickets.views import ObjectPage

PER_PAGE = 50


def first_stragglers(rollout: Rollout, user: Any, now: Any, most: int = 10) -> tuple[int, list[Straggler]]:
    """How many there are, and the first ones, for the rollout's own page."""
    rows = stragglers_of(rollout, user)
    return rows.count(), explain(list(rows[:most]), now=now)


class RolloutStragglers(ObjectPage):
    model = Rollout
    section = "rollout_list"
    list_url_name = "rollout_list"
    related = ("release",)
    title = gettext_lazy("Stragglers")

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        rollout: Rollout = self.find(number)
        page = Paginator(stragglers_of(rollout, request.user), PER_PAGE).get_page(request.GET.get("page"))
        context = self.get_context_data(
            object=rollout,
            page=page,
            stragglers=explain(list(page), now=now_of(request)),
            breadcrumbs=self.crumbs_of(rollout, str(self.title)),
        )
        return render(request, "releases/rollout_stragglers.html", context)
