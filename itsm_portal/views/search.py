"""Search: a page, and the palette below the search field of the frame."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.generic import View

from itsm_portal.search import by_number, by_words, hit
from tickets.links import page_of_object
from tickets.views import PortalPage

ON_THE_PAGE = 10
IN_THE_PALETTE = 5


class Search(PortalPage, View):
    """A number opens its page at once; words show what is found, grouped by kind."""

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "").replace("\0", "").strip()[:200]
        is_palette = request.headers.get("HX-Target") == "search-results"
        named = by_number(text, request.user)
        if named is not None and not is_palette:
            return HttpResponseRedirect(page_of_object(named))
        most = IN_THE_PALETTE if is_palette else ON_THE_PAGE
        context = self.get_context_data(
            title=_("Search"),
            breadcrumbs=[{"label": _("Search")}],
            q=text,
            named=hit(named) if named is not None else None,
            groups=by_words(text, request.user, most=most) if named is None else [],
        )
        return render(request, "components/_search_results.html" if is_palette else "portal/search.html", context)
