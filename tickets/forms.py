"""Forms that every process uses. A form asks only for what the verb needs; the service checks it."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from tickets.activities import Process, activities_of
from tickets.attachments import MOST_FILES, receive, waiting
from tickets.exceptions import DomainError, EditConflict
from tickets.models import Attachment, Level, Ticket
from tickets.people import may_look_for_people, person_named, written
from tickets.timeline import sees_notes

MAX_KEY = 2**63


class PortalForm(forms.Form):
    """A form that knows its object and the person who fills it in. Without fields it only confirms.

    `conflict` is set when the object was changed since the form was opened: the typed text stays, and the form goes
    back with the version that it would now be written over.
    """

    conflict: EditConflict | None = None

    def __init__(self, *args: Any, instance: Any = None, user: Any = None, **kwargs: Any) -> None:
        self.instance = instance
        self.user = user
        super().__init__(*args, **kwargs)
        for name, field in list(self.fields.items()):
            if isinstance(field, PersonField):
                field.asked_by = user
                # Who may not look for people would find nobody.
                if user is not None and not may_look_for_people(user):
                    del self.fields[name]
        self.prepare()

    def take_files(self, now: datetime) -> None:
        """Stores the files that came with the form before anything else can refuse it; a refused form keeps them."""
        field = self.fields.get("files")
        if isinstance(field, FilesField) and self.is_bound:
            field.take(self.data, self.files, actor=self.user, now=now)

    def prepare(self) -> None:
        """Narrows choices to what fits the object and the person."""

    def narrow(self, name: str) -> None:
        """Asks for one field only, and what is hidden; any other name changes nothing."""
        if name in self.fields:
            kept = {name} | {one.name for one in self.hidden_fields()}
            self.fields = {key: field for key, field in self.fields.items() if key in kept}

    @property
    def version_read(self) -> int | None:
        """The version of the ticket that the person has before him; goes with the form. None: nothing that counts."""
        if self.conflict is not None:
            return self.conflict.version
        typed = str(self.data.get("expected_version", ""))
        if typed.isdecimal() and len(typed) <= 9:
            return int(typed)
        return self.instance.version if isinstance(self.instance, Ticket) else None

    def show_conflict(self, conflict: EditConflict) -> None:
        """Keeps what was typed and lets it be saved over the version of the conflict, knowingly."""
        self.conflict = conflict
        if "expected_version" in self.fields:
            self.data = self.data.copy()  # type: ignore[attr-defined]
            self.data["expected_version"] = str(conflict.version)  # type: ignore[index]


class LongText(forms.CharField):
    """Several lines; markdown where people read it."""

    def __init__(self, *, rows: int = 4, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": rows}))
        super().__init__(**kwargs)


class SearchInput(forms.TextInput):
    """A text field that proposes what it may take while one types; `options` names the address that knows it."""

    template_name = "tickets/_search_input.html"

    def __init__(self, options: str, **kwargs: Any) -> None:
        self.options = options
        super().__init__(**kwargs)

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        place = f"options-{context['widget']['attrs'].get('id', name)}"
        context["widget"]["options_id"] = place
        context["widget"]["options_url"] = reverse(self.options)
        context["widget"]["attrs"] |= {"list": place, "autocomplete": "off"}
        return context


class PersonField(forms.CharField):
    """One of the people who can sign in, by name: proposed while one types, found by `people.person_named`.

    The form sets `asked_by`: who may not look for people finds nobody.
    """

    asked_by: Any = None

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", SearchInput("people_options"))
        kwargs.setdefault("help_text", _("Type a part of the name and choose."))
        super().__init__(max_length=200, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """A person, or the key of one, as the field shows him."""
        if isinstance(value, int):
            value = get_user_model().objects.filter(pk=value).first()
        return written(value) if isinstance(value, get_user_model()) else value

    def clean(self, value: Any) -> Any:
        if isinstance(value, get_user_model()):
            return value
        text = super().clean(value)
        if not text:
            return None
        person = person_named(text, asked_by=self.asked_by)
        if person is None:
            raise forms.ValidationError(_("Nobody has this name, or several do. Type a part of it and choose."))
        return person


class FilesInput(forms.Widget):
    """Several files at once, and those that came with a form that was refused: nobody chooses them again."""

    needs_multipart_form = True
    template_name = "tickets/_files_input.html"
    kept: list[Attachment]

    def __init__(self) -> None:
        super().__init__()
        self.kept = []

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return super().get_context(name, "", attrs) | {"kept": self.kept}

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return files.getlist(name) if hasattr(files, "getlist") else []

    def __deepcopy__(self, memo: Any) -> "FilesInput":
        copied: FilesInput = super().__deepcopy__(memo)
        copied.kept = []
        return copied


class FilesField(forms.Field):
    """Files for a ticket. Its value are attachments that wait for it: those that `take` stored, now or before."""

    widget = FilesInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(label=_("Files"), required=False, **kwargs)
        self.refusals: list[str] = []

    def take(self, data: Any, files: Any, *, actor: Any, now: datetime) -> None:
        """Stores what was sent, and finds what was stored when the form was sent before and is still wanted."""
        widget: Any = self.widget
        keys = [int(key) for key in data.getlist("kept")[:MOST_FILES] if key.isascii() and key.isdecimal()]
        widget.kept = waiting([key for key in keys if key < MAX_KEY], actor=actor) if keys else []
        self.refusals = []
        uploads = files.getlist("files") if files else []
        if len(uploads) + len(widget.kept) > MOST_FILES:
            self.refusals.append(_("At most %(most)d files at once.") % {"most": MOST_FILES})
        for upload in uploads[: MOST_FILES - len(widget.kept)]:
            try:
                widget.kept.append(receive(upload, actor=actor, now=now))
            except DomainError as refusal:
                self.refusals.append(refusal.message)

    def clean(self, value: Any) -> Any:
        if self.refusals:
            raise forms.ValidationError(self.refusals)
        return list(getattr(self.widget, "kept", ()))


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


class AssignForm(PortalForm):
    """Who works on it: proposes whoever has it, else the person who asks."""

    assignee = PersonField(label=_("Person"), required=False)
    team = forms.ModelChoiceField(Team.objects.all(), label=_("Team"), required=False)

    def prepare(self) -> None:
        self.initial.setdefault("assignee", self.instance.assignee or self.user)
        self.initial.setdefault("team", self.instance.team_id)


class CommentForm(PortalForm):
    """The composer: a public comment, or an internal note for those who may write one."""

    text = LongText(label=_("Comment"), rows=3, max_length=20_000, required=False)
    public = forms.TypedChoiceField(
        label=_("Who reads it"),
        choices=[("1", _("Public comment: the requester, too")), ("0", _("Internal note"))],
        coerce=lambda value: value == "1",
        empty_value="",
        required=False,
        initial="1",
    )
    files = FilesField()  # type: ignore[assignment]

    def prepare(self) -> None:
        """Who reads no internal notes writes none."""
        if self.instance is not None and not sees_notes(self.instance, self.user):
            field = self.fields["public"]
            field.choices = field.choices[:1]  # type: ignore[attr-defined]
            field.widget = forms.HiddenInput()

    def clean_public(self) -> bool:
        """Whoever is not asked writes for everybody."""
        return self.cleaned_data["public"] is not False


class TicketForm(PortalForm):
    """What a new ticket of any process begins with."""

    title = forms.CharField(label=_("Title"), min_length=3, max_length=200)
    description = LongText(label=_("Description"), rows=6, required=False, help_text=_("Markdown"))
    impact = forms.ChoiceField(label=_("Impact: how much is concerned"), choices=Level, initial=Level.MEDIUM)
    urgency = forms.ChoiceField(label=_("Urgency: how soon it hurts"), choices=Level, initial=Level.MEDIUM)


class EditForm(TicketForm):
    """What a ticket says, as it stands."""

    def prepare(self) -> None:
        for name in self.fields:
            self.initial.setdefault(name, getattr(self.instance, name))


def activity_field(process: Process, initial: str) -> forms.ChoiceField:
    """The maintenance activities that a process handles."""
    return forms.ChoiceField(
        label=_("Activity"), choices=[(a.value, a.label) for a in activities_of(process)], initial=initial
    )
