"""What all tickets share: priority, the activity matrix, numbers, markdown, timeline keys, and one winner of a race."""

import threading
from itertools import product

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from changes.models import Change
from changes.services import draft_change
from incidents.models import Incident
from incidents.services import hold_incident, report_incident, resolve_incident
from problems.models import Problem
from problems.services import open_problem
from releases.models import Release
from tests.factories import NOW, make_user
from tests.tickets import verbs
from tickets.activities import MATRIX, Activity, Process
from tickets.exceptions import InvalidInput, TransitionRefused
from tickets.models import Level, PriorityRule
from tickets.numbers import format_number, parse_number
from tickets.services import create_ticket, edit_fields, priority_for, record
from tickets.text import render_markdown

MODELS = {
    Process.INCIDENT: Incident,
    Process.PROBLEM: Problem,
    Process.CHANGE: Change,
    Process.RELEASE: Release,
}
CELLS = list(product(Process, Activity))


@pytest.mark.django_db
@pytest.mark.parametrize(("process", "activity"), CELLS, ids=[f"{p.value}-{a.value}" for p, a in CELLS])
def test_the_database_takes_exactly_the_pairs_of_the_matrix(process, activity):
    ticket = verbs.make(MODELS[process], make_user("author"))
    write = MODELS[process].objects.filter(pk=ticket.pk)
    if process in MATRIX[activity]:
        assert write.update(activity=activity.value) == 1
    else:
        with pytest.raises(IntegrityError, match=f"{process.value}_activity_applies"), transaction.atomic():
            write.update(activity=activity.value)


@pytest.mark.django_db
def test_a_refused_pair_names_the_processes_that_apply():
    desk = make_user("desk", "service desk", "change requester")
    for call in (report_incident, open_problem):
        with pytest.raises(InvalidInput, match="Change management, Release management") as refusal:
            call(actor=desk, now=NOW, title="New colours", activity="improvement")
        assert (refusal.value.code, refusal.value.field) == ("activity_refused", "activity")
    assert draft_change(actor=desk, now=NOW, title="New colours", activity="improvement").pk


@pytest.mark.django_db
@pytest.mark.parametrize(("impact", "row"), [("high", (1, 2, 3)), ("medium", (2, 3, 4)), ("low", (3, 4, 5))])
def test_the_priority_matrix(impact, row):
    assert tuple(priority_for(impact, urgency) for urgency in Level.values) == row


@pytest.mark.django_db
def test_an_edited_cell_counts_and_unknown_levels_are_refused():
    PriorityRule.objects.create(impact="low", urgency="low", priority=1)
    assert priority_for("low", "low") == 1
    assert priority_for("high", "high") == 1
    with pytest.raises(InvalidInput):
        priority_for("huge", "low")


@pytest.mark.parametrize("text", ["INC-0000042", "inc42", "INC-42", "inc 0042", "  Inc-42 "])
def test_numbers_are_found_in_any_spelling(text):
    assert parse_number(text) == ("INC", 42)


@pytest.mark.parametrize("text", ["", "42", "INC", "INC-", "INC-4x", "INCIDENT-42", "INC-42; --", "INC-" + "9" * 19])
def test_what_is_no_number(text):
    assert parse_number(text) is None


@given(st.sampled_from(["INC", "PRB", "CHG", "REL", "CI"]), st.integers(1, 10**18 - 1))
def test_every_number_that_we_write_can_be_read(prefix, key):
    assert parse_number(format_number(prefix, key)) == (prefix, key)


ATTACKS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))",
    "[x](data:text/html,<script>)", "<a href='javascript:x'>", "![x](https://e.example/pixel)", "<svg/onload=x>",
    "[x]: javascript:alert(1)\n[x]", "<https://e.example/\" onclick=x>", "`<b>`", "\x00<script",
]  # fmt: skip


def check_safe(html: str) -> None:
    lowered = html.lower()
    for bad in ("<script", "<img", "<svg", "<style", "<iframe", 'href="javascript', 'href="data', 'href="vbscript'):
        assert bad not in lowered
    tags = [piece.split(">")[0] for piece in html.split("<")[1:]]
    assert not [tag for tag in tags if " on" in tag.split('"')[0] or "style=" in tag.split('"')[0]]


@pytest.mark.parametrize("attack", ATTACKS)
def test_markdown_runs_no_script(attack):
    check_safe(render_markdown(attack))


@given(st.lists(st.sampled_from([*ATTACKS, "*", "_", "`", "\n", "> ", "[", "](", ")", "<", "&lt;", "a"]), max_size=8))
@settings(max_examples=150, deadline=None)
def test_no_mixture_of_markdown_runs_a_script(pieces):
    check_safe(render_markdown("".join(pieces)))


def test_markdown_keeps_what_people_write():
    html = render_markdown("**bold** [link](https://example.org)\n\n- one\n\n| a |\n|---|\n| b |")
    for part in ("<strong>bold</strong>", 'href="https://example.org"', "noopener", "<li>one</li>", "<td>b</td>"):
        assert part in html


@pytest.mark.django_db
def test_an_entry_with_a_key_is_written_once_on_each_ticket():
    author = make_user("author")
    one, two = (create_ticket(Incident, actor=author, now=NOW, title="Printer on fire") for _ in range(2))
    values = {"kind": "system", "actor": None, "now": NOW, "text": "t", "key": "rollout:17"}
    assert record(one, **values)
    assert not record(one, **values)
    assert record(two, **values)
    with pytest.raises(IntegrityError, match="key_once"), transaction.atomic():
        one.entries.create(kind="system", created_at=NOW, key="rollout:17")


@pytest.mark.django_db
def test_edits_are_refused_after_somebody_elses():
    ticket = create_ticket(Incident, actor=make_user("author"), now=NOW, title="Printer on fire")
    stale = Incident.objects.get()
    edit_fields(ticket, now=NOW, expected_version=1, title="Printer burning")
    with pytest.raises(TransitionRefused):
        edit_fields(stale, now=NOW, expected_version=1, title="Printer wet")
    assert (ticket.version, Incident.objects.get().title) == (2, "Printer burning")


@pytest.mark.django_db
def test_a_state_is_never_assigned():
    ticket = create_ticket(Incident, actor=make_user("author"), now=NOW, title="Printer on fire")
    with pytest.raises(AttributeError):
        ticket.state = "closed"


def race(*calls) -> list[object]:
    """Runs the calls at the same time, each on a connection of its own; returns results or refusals."""
    results: list[object] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index, call):
        try:
            start.wait(timeout=10)
            results[index] = call()
        except TransitionRefused as refusal:
            results[index] = refusal
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return results


@pytest.mark.django_db(transaction=True)
def test_of_two_people_at_the_same_time_one_wins_and_the_other_is_told():
    desk = make_user("desk", "service desk")
    desk.has_perm("incidents.work_incident")
    ticket = create_ticket(Incident, actor=desk, now=NOW, title="Printer on fire")
    Incident.objects.update(state="assigned")
    first, second = Incident.objects.get(), Incident.objects.get()
    results = race(
        lambda: resolve_incident(first, actor=desk, now=NOW, resolution="Extinguished"),
        lambda: hold_incident(second, actor=desk, now=NOW, reason="vendor"),
    )
    refusals = [result for result in results if isinstance(result, TransitionRefused)]
    state = Incident.objects.get().state
    # Resolving after the hold would be lawful for a fresh copy; for this one somebody else was first.
    assert len(refusals) == 1
    assert "somebody else was first" in refusals[0].message
    assert ticket.entries.filter(from_state="assigned").count() == 1
    assert state == ticket.entries.get(from_state="assigned").to_state
    loser = second if results[1] is refusals[0] else first
    assert loser.state == "assigned", "the loser's copy is unchanged"


@pytest.mark.django_db(transaction=True)
def test_two_workers_with_one_key_write_one_entry():
    ticket = create_ticket(Incident, actor=make_user("author"), now=NOW, title="Printer on fire")
    values = {"kind": "system", "actor": None, "now": NOW, "text": "t", "key": "rollout:17"}
    assert sorted(map(str, race(*[lambda: record(ticket, **values)] * 2))) == ["False", "True"]
    assert ticket.entries.filter(key="rollout:17").count() == 1
