"""Examples of every component in every state, for the style guide; nothing of it is in the database."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from accounts.models import User
from incidents.models import Incident
from incidents.tables import IncidentTable
from itsm_portal.chain import Link, Step
from itsm_portal.search import Group, hit
from releases.models import Release, ReleaseApproval, Rollout
from tickets.appearance import PRIORITIES, STATES
from tickets.charts import Bar, Chart, Mark, Series, bars
from tickets.forms import LongText, MomentField, PortalForm
from tickets.models import EntryKind, Priority
from tickets.paging import Page
from tickets.timeline import Part
from tickets.verbs import Button
from tickets.views_list import Header

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
TONES = ("neutral", "blue", "cyan", "green", "amber", "orange", "red", "violet")
STYLES = ("primary", "success", "warning", "danger", "secondary")


@dataclass(frozen=True, slots=True)
class Toast:
    """As Django's messages look to a template."""

    level_tag: str
    text: str

    def __str__(self) -> str:
        return self.text


class ExampleForm(PortalForm):
    """A field of each kind; what is wrong stands below its field."""

    line = forms.CharField(label="A line", help_text="What it is for.")
    refused = forms.CharField(label="A refused line", initial="-1")
    text = LongText(label="Several lines", required=False)
    choice = forms.ChoiceField(label="A choice", choices=[("a", "one"), ("b", "another")])
    several = forms.MultipleChoiceField(
        label="Several", choices=[("a", "one"), ("b", "another")], widget=forms.CheckboxSelectMultiple, required=False
    )
    yes = forms.BooleanField(label="Yes or no", required=False)
    moment = MomentField(label="A moment", required=False)
    file = forms.FileField(label="A file", required=False)


def example_form(user: Any) -> ExampleForm:
    """The form after it was sent, with a refusal at one field and one above all."""
    form = ExampleForm({"line": "Typed", "refused": "-1", "choice": "a"}, user=user)
    form.is_valid()
    form.add_error("refused", "At least 0. Enter how many CIs may fail.")
    form.add_error(None, "INC-0000042 was changed by somebody else meanwhile. Look at the new version.")
    return form


def people() -> tuple[User, User]:
    return User(username="uma", first_name="Uma", last_name="Moss"), User(username="sven")


def incidents() -> list[Incident]:
    """One in each state; with every priority."""
    uma, sven = people()
    return [
        Incident(
            pk=number, title=f"An incident that is {state.label}", state=state, priority=1 + number % 5, requester=uma,
            assignee=sven if number % 2 else None, updated_at=NOW, created_at=NOW,
        )
        for number, state in enumerate(Incident.State, start=1)
    ]  # fmt: skip


def chains() -> list[tuple[str, list[Step]]]:
    """A chain at its beginning, and one that has come to its end."""
    ends = ("incident", "problem", "change", "release", "rollout", "ci")
    states = ("on_hold", "fix_in_progress", "implementing", "deploying", "running", "in_operation")
    prefixes = ("INC", "PRB", "CHG", "REL", "ROL", "CI")
    full = [
        Step(
            kind, kind.capitalize(),
            (Link(f"{prefix}-0000042", "Title", state, state.replace("_", " "), "Uma Moss", "#"),),
            3 if kind == "incident" else 1, is_here=kind == "change",
            text="Billing 2.4.1" if kind == "ci" else "", since=NOW if kind == "ci" else None,
        )
        for kind, prefix, state in zip(ends, prefixes, states, strict=True)
    ]  # fmt: skip
    missing = [Step(kind, kind.capitalize(), missing="not there yet") for kind in ends[2:]]
    action = Step("problem", "Problem", missing="not opened", action="Open a problem", action_url="#")
    return [("begun", [full[0], action, *missing]), ("complete", full)]


def buttons() -> list[Button]:
    """Each style as a link to a form, one that acts at once, and one that is not possible yet."""
    shown = [Button(style, style, style, "check", "#", False) for style in STYLES]
    blocked = Button("blocked", "not yet", "primary", "ban", "#", False, refusal="Write the root cause first.")
    return [*shown, Button("direct", "at once", "primary", "player-play", "#", True), blocked]


def approvals() -> list[ReleaseApproval]:
    uma, sven = people()
    return [
        ReleaseApproval(approver=uma, decision="approved", content_hash="a" * 64, comment="Go.", created_at=NOW),
        ReleaseApproval(approver=sven, decision="approved", content_hash="b" * 64, created_at=NOW),
        ReleaseApproval(
            approver=sven, decision="rejected", content_hash="a" * 64, comment="Not *yet*.", created_at=NOW
        ),
    ]


def rollouts() -> list[Rollout]:
    release = Release(pk=1, title="Billing 2.4.1")
    found = [
        Rollout(pk=n, release=release, state=state) for n, state in enumerate(("running", "paused", "rolling_back"), 1)
    ]
    for number, rollout in enumerate(found, start=1):
        rollout.total, rollout.done = 100, number * 30  # type: ignore[attr-defined]
    return found


def entries() -> list[Any]:
    """One of each kind in a timeline."""
    uma, _sven = people()
    model: Any = Incident.entries.rel.related_model  # type: ignore[attr-defined]
    shown = [
        model(kind=kind, author=uma, created_at=NOW, text="It is **loud**.", is_public=kind != EntryKind.NOTE)
        for kind in EntryKind
    ]
    for entry in shown:
        if entry.kind == EntryKind.STATE:
            entry.from_state, entry.to_state = "assigned", "in_progress"
            entry.from_label, entry.to_label = "assigned", "in progress"
        if entry.kind == EntryKind.SYSTEM:
            entry.author = None
    return shown


def charts() -> list[Chart]:
    """Bars on each other, areas with a line, a share that is missing in between, and one without figures."""
    weeks = [f"week {number}" for number in range(30, 42)]
    solved, failed = [3, 5, 8, 13, 9, 7, 11, 14, 6, 4, 9, 12], [0, 1, 0, 2, 1, 0, 0, 3, 0, 0, 1, 0]
    share = [None if not n else 100 * bad / (n + bad) for n, bad in zip(solved, failed, strict=True)]
    share[5] = None
    new = [0, 2, 10, 40, 90, 150, 210, 250, 280, 295, 300, 300]
    return [
        Chart("Changes", weeks, [Series("succeeded", "green", solved), Series("failed", "red", failed)], first="Week"),
        Chart(
            "Versions", weeks,
            [Series("2.0", "green", new, "area"), Series("1.0", "neutral", [300 - n for n in new], "area")],
            first="Week", marks=[Mark(0.2, "2"), Mark(0.6, "3")],
        ),
        Chart("Failure rate", weeks, [Series("failed", "red", share, "line")], unit="%", decimals=1, first="Week"),
        Chart("Nothing yet", weeks, [Series("failed", "red", [0] * 12)]),
    ]  # fmt: skip


def example_bars() -> list[Bar]:
    return bars(
        [("Big bang", "blue", 3600, "1 h"), ("Phased", "green", 14_400, "4 h"), ("Never", "red", None, "never")]
    )


def table_context(rows: list[Incident]) -> dict[str, Any]:
    """A list as its skeleton gets it: sorted by number, the title cannot be sorted by."""
    table = IncidentTable(rows, order_by=(), exclude=IncidentTable.hidden_at_first)
    sorts = {"number": ("#", "descending"), "choose": ("", ""), "title": ("", "")}
    headers = [Header(column.name, table.head(column), *sorts.get(column.name, ("#", ""))) for column in table.columns]
    return {"table": table, "headers": headers, "page": Page(rows, 10_001, after="x", before="x"), "after_url": "#"}


def context(user: Any) -> dict[str, Any]:
    """Everything that the page of components shows."""
    rows = incidents()
    return {
        "states": [(name.rpartition(".")[2], name.rpartition(".")[0]) for name in STATES],
        "priorities": [(label, PRIORITIES[value]) for value, label in Priority.choices],
        "tones": TONES,
        "people": people(),
        "moment": NOW,
        "chains": chains(),
        "buttons": buttons(),
        "toasts": [Toast("success", _("Saved.")), Toast("error", "Name a person or a team.")],
        "approvals": approvals(),
        "content_hash": "a" * 64,
        "rollouts": rollouts(),
        "bells": (0, 1, 100),
        "groups": [Group("Incidents", [hit(row) for row in rows[:3]])],
        "charts": charts(),
        "bars": example_bars(),
        "part": Part(entries(), older=None, newest=None, only=""),
        "sees_notes": True,
        "comment_url": "#",
        "form": example_form(user),
        **table_context(rows),
    }
