"""Columns that lists share; each renders by the same functions as the pages. `value` is what a file shows."""

from collections.abc import Callable
from inspect import signature
from typing import Any, ClassVar

import django_tables2 as tables
from django.core.exceptions import FieldDoesNotExist
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from tickets.appearance import choices_of
from tickets.links import page_of_object
from tickets.templatetags.portal import moment, person, priority_badge, state_badge


class ChooseColumn(tables.Column):
    """A box for each row, for what is done with several; `x` marks it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(verbose_name="", accessor="pk", orderable=False, exclude_from_export=True, **kwargs)

    def render(self, record: Any) -> str:
        return format_html(
            '<input class="form-check-input" type="checkbox" form="bulk" name="pick" value="{}" aria-label="{}">',
            record.number,
            _("Choose %(number)s") % {"number": record.number},
        )


class NumberColumn(tables.Column):
    """The number as the row's link; `j` and `k` walk over it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(verbose_name=_("number"), accessor="pk", **kwargs)

    def render(self, record: Any) -> str:
        return format_html('<a class="number row-link" href="{}">{}</a>', page_of_object(record), record.number)

    def value(self, record: Any) -> str:
        return str(record.number)


class StateColumn(tables.Column):
    def render(self, record: Any) -> str:
        return state_badge(record)

    def value(self, record: Any) -> str:
        return str(record.get_state_display())


class PriorityColumn(tables.Column):
    def render(self, record: Any) -> str:
        return priority_badge(record)

    def value(self, record: Any) -> str:
        return str(record.get_priority_display())


class PersonColumn(tables.Column):
    def render(self, value: Any) -> str:
        return person(value)

    def value(self, value: Any) -> str:
        return str(value.label)


class MomentColumn(tables.Column):
    def render(self, value: Any) -> str:
        return moment(value)

    def value(self, value: Any) -> str:
        return str(value.isoformat(timespec="seconds"))


class PortalTable(tables.Table):
    """Looks and pages like every list of the portal. Of the columns those `hidden_at_first` are shown when chosen."""

    hidden_at_first: ClassVar[tuple[str, ...]] = ()

    def lines(self) -> list[list[tuple[str, Any]]]:
        """The rows as cells: class and content."""
        columns = [
            (column.column.attrs.get("td", {}).get("class", ""), self._content_of(column)) for column in self.columns
        ]
        return [[(css, content(row)) for css, content in columns] for row in self.rows]

    def _content_of(self, column: Any) -> Callable[[Any], Any]:
        """What a row's cell shows. Worked out once for the page: the library asks for the renderer's parameters, and
        hashes all choices of the field, for each cell anew, which cost half of a list.
        """
        render = getattr(self, f"render_{column.name}", column.column.render)
        wanted = list(signature(render).parameters)
        if not set(wanted) <= {"record", "value"}:
            return lambda row: row.get_cell(column.name)
        accessor, choices = column.accessor, choices_of(self._meta.model, str(column.accessor))

        def content(row: Any) -> Any:
            value = accessor.resolve(row.record, quiet=True)
            if value in column.column.empty_values:
                return column.default
            given = {"record": row.record, "value": choices.get(value, value) if choices else value}
            return render(**{name: given[name] for name in wanted})

        return content

    def head(self, column: Any) -> str:
        """The head of a column: as it says itself, else the name of the model's field."""
        label = column.column.verbose_name
        if label is None:
            try:
                label = self._meta.model._meta.get_field(column.name).verbose_name
            except FieldDoesNotExist:
                label = column.name.replace("_", " ")
        text = str(label)
        return text[:1].upper() + text[1:]

    class Meta:
        template_name = "tables/table.html"
        attrs = {"class": "table table-vcenter card-table portal-table"}


class TicketTable(PortalTable):
    """Number, title, state, priority, people and times of any ticket."""

    hidden_at_first: ClassVar[tuple[str, ...]] = ("team", "created_at", "activity")

    choose = ChooseColumn()
    number = NumberColumn()
    title = tables.Column(attrs={"td": {"class": "title"}})
    state = StateColumn()
    priority = PriorityColumn()
    requester = PersonColumn()
    assignee = PersonColumn(default="–")
    team = tables.Column(default="–")
    updated_at = MomentColumn()
    created_at = MomentColumn()
    activity = tables.Column()

    class Meta(PortalTable.Meta):
        order_by = "-number"
