"""The filter bar of the problem list."""

import django_filters
from django.utils.translation import gettext_lazy as _

from problems.models import Problem
from tickets.filters import TicketFilter, state_filter


class ProblemFilter(TicketFilter):
    state = state_filter(Problem)
    is_known_error = django_filters.ChoiceFilter(
        choices=[("True", _("known errors"))], label=_("Known error"), empty_label=_("any")
    )

    class Meta:
        model = Problem
        fields = ("q", "scope", "state", "priority", "is_known_error")
