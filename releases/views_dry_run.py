"""The dry run on the release's tab “Plan”, and the CIs behind its numbers."""

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.generic import View

from releases.dry_run.advice import RULE
from releases.dry_run.chart import chart_of
from releases.dry_run.report import dry_run
from releases.dry_run.targets import LOST, ONLY, TAKEN, planned_cis, shown_conflicts
from releases.models import Release
from releases.plan_findings import findings
from tickets.clock import now_of
from tickets.views import ObjectPage

PER_PAGE = 50


class ReleaseDryRun(ObjectPage, View):
    """What a start would do. The tab fetches it once it is open: for a large fleet it takes seconds."""

    model = Release
    section = "release_list"
    list_url_name = "release_list"

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        release: Release = self.find(number)
        found = dry_run(release, now=now_of(request))
        most = max(forecast.run.most_downloads for forecast in found.forecasts)
        context = self.get_context_data(
            object=release,
            plan=found,
            findings=findings(release, now=now_of(request)),
            cards=[(f, chart_of(f, targets=found.targets, most_downloads=most)) for f in found.forecasts],
            conflicts=shown_conflicts(found.conflicts, request.user),
            rule=RULE,
            lost=LOST,
            taken=TAKEN,
            title=_("Dry run of %s") % release.number,
            breadcrumbs=self.crumbs_of(release, _("Dry run")),
        )
        is_fragment = bool(getattr(request, "htmx", False))
        return render(request, "releases/_dry_run.html" if is_fragment else "releases/dry_run.html", context)


class DryRunCIs(ObjectPage, View):
    """The targets one by one: of a wave, without a way back, or with other rollouts."""

    model = Release
    section = "release_list"
    list_url_name = "release_list"

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        release: Release = self.find(number)
        wave, only = request.GET.get("wave", ""), request.GET.get("only", "")
        chosen: dict[str, Any] = {
            "wave": int(wave) if wave.isascii() and wave.isdigit() and len(wave) < 9 else None,
            "only": only if only in ONLY else "",
        }
        found = planned_cis(release, request.user, **chosen)
        page = Paginator(found.cis, PER_PAGE).get_page(request.GET.get("page"))
        context = self.get_context_data(
            object=release,
            rows=found.rows(list(page)),
            page=page,
            waves=sorted(set(found.wave_of.values())),
            **chosen,
            lost=LOST,
            taken=TAKEN,
            title=_("Targets of %s") % release.number,
            breadcrumbs=self.crumbs_of(release, _("Targets")),
        )
        return render(request, "releases/dry_run_cis.html", context)
