"""The skeleton of every list: filtered, sorted and paged by the database, with views that people keep, columns that
they choose, actions on several rows, and the same as a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import cached_property
from django.views.generic import View

from tickets.csv_export import csv_lines
from tickets.paging import MOST_COUNTED, Page, Sort, count_some, read_all, read_page
from tickets.saved_views import PASSING, SavedViewForm, query_text, views_for
from tickets.verbs import BulkAction, VerbPage, bulk_actions
from tickets.views import PortalPage


@dataclass(frozen=True, slots=True)
class Header:
    """The head of a column. `url` sorts by it; `direction` is how the list is sorted by it now, if it is."""

    name: str
    label: str
    url: str = ""
    direction: str = ""


class ListPage(PortalPage, View):
    """A list of what the person may see. Its address says all: filters, order, columns, and where the page begins.

    `wide_sorts` names the columns that an index sorts by; a list of more than `MOST_COUNTED` rows is sorted by no other
    (empty: the list is never that long). The table's `order_by` is the order at first.
    """

    http_method_names = ["get", "head"]
    model: Any
    table_class: Any
    filterset_class: Any
    template_name = "tickets/ticket_list.html"
    per_page = 50
    create_url_name = ""
    create_permission = ""
    create_label: Any = ""
    intro: Any = ""
    related: tuple[str, ...] = ()
    wide_sorts: tuple[str, ...] = ()
    # Verbs for several rows at once, and the page that does them (`views_bulk.BulkPage`).
    verbs: Mapping[str, VerbPage] = {}
    bulk: tuple[str, ...] = ()
    bulk_url_name = ""

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        if request.GET.get("export") == "csv":
            return self.as_file()
        return render(request, self.template_name, self.context())

    def get_queryset(self) -> Any:
        return self.model.objects.visible_to(self.request.user).select_related(*self.related)

    @cached_property
    def filterset(self) -> Any:
        return self.filterset_class(self.request.GET, queryset=self.get_queryset(), request=self.request)

    @cached_property
    def total(self) -> int:
        return count_some(self.filterset.qs)

    def page(self) -> Page:
        place = {name: self.request.GET.get(name, "") for name in ("after", "before")}
        return read_page(self.filterset.qs, self.sort, size=self.per_page, total=self.total, **place)

    @cached_property
    def sort(self) -> Sort:
        """The order that the address asks for, if the list can be sorted so; else that of the table."""
        wanted = self.request.GET.get("sort", "")
        if not self.is_sortable(wanted.removeprefix("-")):
            wanted = (self.table_class._meta.order_by or ("-pk",))[0]
        name = wanted.removeprefix("-")
        column = self.table_class.base_columns.get(name)
        path = str(getattr(column, "accessor", None) or name).replace(".", "__")
        return Sort(name, _leaf(self.model, path), is_descending=wanted.startswith("-"))

    def is_sortable(self, name: str) -> bool:
        column = self.table_class.base_columns.get(name)
        if column is None or column.orderable is False:
            return False
        return not self.wide_sorts or name in self.wide_sorts or self.total <= MOST_COUNTED

    def table(self, rows: list[Any]) -> Any:
        return self.table_class(rows, order_by=(), exclude=self.hidden(), request=self.request)

    def hidden(self) -> tuple[str, ...]:
        """Columns that are not shown: all but the chosen ones, or those that the table hides at first."""
        chosen = set(self.request.GET.getlist("col")) & set(self.columns())
        if not chosen:
            return (*self.table_class.hidden_at_first, *self.never_shown())
        kept = chosen | ({"choose"} if self.actions else set())
        return tuple(name for name in self.table_class.base_columns if name not in kept)

    def columns(self) -> dict[str, Any]:
        """The columns that one may choose from."""
        kept_back = {"choose", *self.never_shown()}
        return {name: column for name, column in self.table_class.base_columns.items() if name not in kept_back}

    def never_shown(self) -> tuple[str, ...]:
        """Columns that are not for this person."""
        return () if self.actions or "choose" not in self.table_class.base_columns else ("choose",)

    @cached_property
    def actions(self) -> list[BulkAction]:
        """What the person may order for several rows at once."""
        if not self.bulk_url_name:
            return []
        return bulk_actions(self.model, self.request.user, self.verbs, self.bulk, self.bulk_url_name)

    def headers(self, table: Any) -> list[Header]:
        found = []
        for column in table.columns:
            sorted_by_it = column.name == self.sort.name
            direction = ("descending" if self.sort.is_descending else "ascending") if sorted_by_it else ""
            turned = f"-{column.name}" if direction == "ascending" else column.name
            url = self.address(sort=turned) if column.orderable and self.is_sortable(column.name) else ""
            found.append(Header(column.name, table.head(column), url, direction))
        return found

    def address(self, **changes: str) -> str:
        """This list with other parameters; from its first row on."""
        query = self.request.GET.copy()
        for name in (*PASSING, *changes):
            query.pop(name, None)
        for name, value in changes.items():
            query[name] = value
        return f"{self.request.path}?{query.urlencode()}"

    def context(self) -> dict[str, Any]:
        page = self.page()
        table = self.table(page.rows)
        may_create = self.create_url_name and self.request.user.has_perm(self.create_permission)
        return self.get_context_data(
            filter=self.filterset,
            table=table,
            page=page,
            headers=self.headers(table),
            first_url=self.address(),
            after_url=self.address(after=page.after) if page.after else "",
            before_url=self.address(before=page.before) if page.before else "",
            export_url=self.address(export="csv"),
            columns=self.choices(table),
            kept=[pair for pair in self.asked() if pair[0] in {"sort", "col"}],
            asked=[pair for pair in self.asked() if pair[0] != "col"],
            actions=self.actions,
            create_url=reverse(self.create_url_name) if may_create else "",
            create_label=self.create_label,
            intro=self.intro,
            **self.saved(),
        )

    def asked(self) -> list[tuple[str, str]]:
        """What the address asks for, but where the page begins."""
        lists = self.request.GET.lists()
        return [(name, text) for name, texts in lists if name not in PASSING for text in texts if text]

    def choices(self, table: Any) -> list[tuple[str, str, bool]]:
        """The columns that one may choose from: name, head, and whether it is shown."""
        everything, names = self.table_class([], order_by=()), self.columns()
        shown = {column.name for column in table.columns}
        return [
            (column.name, table.head(column), column.name in shown)
            for column in everything.columns
            if column.name in names
        ]

    def saved(self) -> dict[str, Any]:
        """The views that the person keeps for this list, and the form for one more."""
        match = self.request.resolver_match
        assert match is not None
        assert match.url_name is not None
        now, page = query_text(self.request.GET), match.url_name
        views = views_for(self.request.user, page)
        return {
            "saved_views": [
                (view, f"{self.request.path}?{view.query}", view.query == now, view.owner_id == self.request.user.pk)
                for view in views
            ],
            "is_plain": not now,
            "save_form": SavedViewForm(user=self.request.user, initial={"page": page, "query": now}, auto_id="view_%s"),
        }

    def as_file(self) -> StreamingHttpResponse:
        """All rows of the list as CSV, with the columns that are shown."""
        rows = read_all(self.filterset.qs, self.sort)
        lines = csv_lines(rows, lambda some: self.table(some))
        answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="{self.model._meta.model_name}s.csv"'
        return answer


def _leaf(model: Any, path: str) -> str:
    """The path to something that can be compared: for a person the user name, for other objects their own order."""
    for part in path.split("__"):
        if part == "pk" or part not in {field.name for field in model._meta.get_fields()}:
            return path
        field = model._meta.get_field(part)
        if not field.is_relation:
            return path
        model = field.related_model
    own = getattr(model, "USERNAME_FIELD", "") or next(iter(model._meta.ordering), "pk")
    return f"{path}__{own.removeprefix('-')}"
