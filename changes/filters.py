"""The filter bar of the change list."""

import django_filters
from django.utils.translation import gettext_lazy as _

from changes.models import Change
from tickets.filters import TicketFilter, state_filter


class ChangeFilter(TicketFilter):
    state = state_filter(Change)
    change_type = django_filters.ChoiceFilter(choices=Change.Type.choices, label=_("Type"), empty_label=_("any"))

    class Meta:
        model = Change
        fields = ("q", "scope", "state", "change_type", "priority")
