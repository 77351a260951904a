"""Forms that every process uses. A form asks only for what the verb needs; the service checks it."""

from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.utils.translation import gettext_lazy as _

from tickets.activities import Process, activities_of
from tickets.models import Level


class PortalForm(forms.Form):
    """A form that knows its object and the person who fills it in. Without fields it only confirms."""

    def __init__(self, *args: Any, instance: Any = None, user: Any = None, **kwargs: Any) -> None:
        self.instance = instance
        self.user = user
        super().__init__(*args, **kwargs)
        self.prepare()

    def prepare(self) -> None:
        """Narrows choices to what fits the object and the person."""


class LongText(forms.CharField):
    """Several lines; markdown where people read it."""

    def __init__(self, *, rows: int = 4, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": rows}))
        super().__init__(**kwargs)


class PersonField(forms.ModelChoiceField):
    """One of the people who can sign in."""

    def __init__(self, **kwargs: Any) -> None:
        people = get_user_model().objects.filter(is_active=True, is_service_account=False).order_by("username")
        super().__init__(queryset=people, **kwargs)


class MomentField(forms.DateTimeField):
    """A date and time in the reader's zone."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault(
            "widget", forms.DateTimeInput(attrs={"type": "datetime-local", "step": 60}, format="%Y-%m-%dT%H:%M")
        )
        super().__init__(**kwargs)


class ReasonForm(PortalForm):
    reason = LongText(label=_("Reason"), rows=3)


class OptionalReasonForm(PortalForm):
    reason = LongText(label=_("Reason"), rows=3, required=False)


class ApproveForm(PortalForm):
    comment = LongText(label=_("Comment"), rows=2, required=False)


class RejectForm(PortalForm):
    comment = LongText(label=_("What has to change"), rows=3)


class CommentForm(PortalForm):
    """The composer: a public comment, or an internal note for those who may write one."""

    text = LongText(label=_("Comment"), rows=3, max_length=20_000)
    public = forms.TypedChoiceField(
        label=_("Who reads it"),
        choices=[("1", _("Public comment: the requester, too")), ("0", _("Internal note"))],
        coerce=lambda value: value == "1",
        empty_value="",
        required=False,
        initial="1",
    )

    def clean_public(self) -> bool:
        """Whoever is not asked writes for everybody."""
        return self.cleaned_data["public"] is not False


class TicketForm(PortalForm):
    """What a new ticket of any process begins with."""

    title = forms.CharField(label=_("Title"), min_length=3, max_length=200)
    description = LongText(label=_("Description"), rows=6, required=False, help_text=_("Markdown"))
    impact = forms.ChoiceField(label=_("Impact: how much is concerned"), choices=Level, initial=Level.MEDIUM)
    urgency = forms.ChoiceField(label=_("Urgency: how soon it hurts"), choices=Level, initial=Level.MEDIUM)


def activity_field(process: Process, initial: str) -> forms.ChoiceField:
    """The maintenance activities that a process handles."""
    return forms.ChoiceField(
        label=_("Activity"), choices=[(a.value, a.label) for a in activities_of(process)], initial=initial
    )
