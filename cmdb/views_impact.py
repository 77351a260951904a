"""The impact of a CI: a graph of what stands on it and what it stands on, with the same as a table."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cmdb.impact import MAX_DEPTH, MAX_NODES, graph_of
from cmdb.views import CIPage

_STEPS = [(number, str(number)) for number in range(MAX_DEPTH + 1)]
_DEFAULTS = {"up": 2, "down": 2, "limit": 300}


class ImpactForm(forms.Form):
    """How far to look, and how many CIs to draw."""

    up = forms.TypedChoiceField(label=gettext_lazy("Steps up (depends on it)"), choices=_STEPS, coerce=int)
    down = forms.TypedChoiceField(label=gettext_lazy("Steps down (it depends on)"), choices=_STEPS, coerce=int)
    limit = forms.TypedChoiceField(
        label=gettext_lazy("At most"), choices=[(100, "100"), (300, "300"), (MAX_NODES, str(MAX_NODES))], coerce=int
    )


class CIImpact(CIPage):
    """The page of its own; within the page of the CI the same comes as a fragment."""

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        ci = self.find(number)
        form = ImpactForm({**_DEFAULTS, **{name: request.GET[name] for name in _DEFAULTS if name in request.GET}})
        chosen: dict[str, Any] = form.cleaned_data if form.is_valid() else _DEFAULTS
        context = self.get_context_data(
            object=ci,
            title=_("Impact of %(ci)s") % {"ci": ci.name},
            breadcrumbs=self.crumbs_of(ci, _("Impact")),
            graph=graph_of(ci, request.user, **chosen),
            form=form,
            chosen=chosen,
        )
        is_fragment = bool(getattr(request, "htmx", False))
        return render(request, "cmdb/_impact.html" if is_fragment else "cmdb/impact.html", context)
