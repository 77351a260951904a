"""Pages of freezes: when nothing is to be changed."""

from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changes import freezes
from changes.filters import FreezeFilter
from changes.forms_freeze import FreezeForm
from changes.models import Freeze
from changes.tables import FreezeTable
from tickets.clock import now_of
from tickets.views import ObjectPage, ServiceFormPage
from tickets.views_list import ListPage


class FreezeList(ListPage):
    model = Freeze
    table_class = FreezeTable
    filterset_class = FreezeFilter
    section = "change_list"
    title = gettext_lazy("Freezes")
    intro = gettext_lazy("While one lasts, rollouts offer nothing new; they go on by themselves when it is over.")
    related = ("created_by",)
    create_url_name = "freeze_create"
    create_permission = freezes.MANAGE
    create_label = gettext_lazy("Declare a freeze")


class FreezeCreate(ServiceFormPage):
    form_class = FreezeForm
    section = "change_list"
    list_url_name = "freeze_list"
    permission = freezes.MANAGE
    title = gettext_lazy("Declare a freeze")
    intro: Any = gettext_lazy("Rollouts that run into it let what is under way finish, and wait.")

    def perform(self, instance: Any, data: dict[str, Any]) -> Freeze:
        return freezes.declare_freeze(actor=self.person, now=now_of(self.request), **data)

    def section_label(self) -> Any:
        return _("Freezes")

    def success_url(self, instance: Any, result: Any) -> str:
        return reverse("freeze_list")


class FreezeDetail(ObjectPage, FreezeCreate):
    """One freeze; who may manage changes edits it."""

    model = Freeze
    list_url_name = "freeze_list"
    permission = ""
    title: Any = gettext_lazy("Edit")
    intro = gettext_lazy("To end it, set its end to now.")

    def instance(self, **kwargs: Any) -> Freeze:
        freeze: Freeze = self.find(kwargs["number"])
        return freeze

    def perform(self, instance: Freeze, data: dict[str, Any]) -> Freeze:
        return freezes.edit_freeze(instance, actor=self.person, now=now_of(self.request), **data)
