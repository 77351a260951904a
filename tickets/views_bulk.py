"""One verb for several rows of a list: what it needs is asked once, each row answers for itself."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _

from tickets.exceptions import DomainError
from tickets.numbers import parse_number
from tickets.verbs import VerbPage
from tickets.views import VerbPageView

MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one row: done, or why not."""

    object: Any
    is_done: bool
    text: str


class BulkPage(VerbPageView):
    """The verb's form for the chosen rows, and after it what became of each. Goes before the page of a single verb.

    `?pick=` names the rows. Each is done through the verb's service for itself: one that is refused stops no other.
    """

    template_name = "tickets/bulk.html"
    bulk: tuple[str, ...] = ()
    bulk_url_name = ""

    def get(self, request: HttpRequest, verb: str) -> HttpResponse:  # type: ignore[override]
        page, chosen = self.page(verb), self.chosen(request.GET.getlist("pick"))
        form = page.form(instance=chosen[0], user=request.user) if chosen else None
        return self.show_bulk(verb, form, chosen)

    def post(self, request: HttpRequest, verb: str) -> HttpResponse:  # type: ignore[override]
        page, chosen = self.page(verb), self.chosen(request.POST.getlist("pick"))
        if not chosen:
            return self.show_bulk(verb, None, chosen)
        form = page.form(request.POST, request.FILES, instance=chosen[0], user=request.user)
        if not form.is_valid():
            return self.show_bulk(verb, form, chosen, status=400)
        results = [self.result(instance, verb, page, form) for instance in chosen]
        # Where nothing was done, what was typed stays.
        again = None if any(result.is_done for result in results) else form
        return self.show_bulk(verb, again, chosen, results=results)

    def page(self, verb: str) -> VerbPage:
        if verb not in self.bulk:
            raise Http404
        return super().page(verb)

    def chosen(self, numbers: list[str]) -> list[Any]:
        """The visible rows among these numbers, in the order of their keys."""
        found = [parse_number(text) for text in numbers[:MOST_ROWS]]
        keys = [number[1] for number in found if number and number[0] == self.model.PREFIX]
        return list(self.queryset().filter(pk__in=keys).order_by("pk"))

    def result(self, instance: Any, verb: str, page: VerbPage, form: Any) -> Result:
        try:
            self.check(instance, page)
            self.call(instance, verb, page, form)
        except PermissionDenied:
            return Result(instance, False, _("You may not do this here."))
        except DomainError as error:
            return Result(instance, False, error.message)
        instance.refresh_from_db()
        return Result(instance, True, _("done"))

    def show_bulk(
        self, verb: str, form: Any, chosen: list[Any], *, results: list[Result] | None = None, status: int = 200
    ) -> HttpResponse:
        plural = str(self.model._meta.verbose_name_plural)
        label = str(self.page(verb).label) or str(self.label(self.model, verb))
        list_crumb = {"label": plural[:1].upper() + plural[1:], "url": reverse(self.list_url_name)}
        context = self.get_context_data(
            title=f"{label}: {plural}",
            breadcrumbs=[list_crumb, {"label": label}],
            label=label,
            form=form,
            chosen=chosen,
            results=results,
            done=sum(result.is_done for result in results or ()),
            list_url=reverse(self.list_url_name),
            action=reverse(self.bulk_url_name, args=[verb]),
        )
        return render(self.request, self.template_name, context, status=status)
