"""What is written down is in the portal's language; what a person is told at once is in his."""

import gettext

import pytest
from django.utils import translation
from django.utils.translation import trans_real

from changes.services import assess_change, draft_change, submit_change
from incidents.services import assign_incident, declare_major, hold_incident, report_incident
from problems.services import communicate_workaround, document_problem, open_problem
from tests.factories import make_user
from tickets.exceptions import InvalidInput

pytestmark = pytest.mark.django_db


class Marked(gettext.NullTranslations):
    """A catalogue in which every text begins with §, so that the test needs no real one."""

    def to_language(self) -> str:
        return "de"

    def gettext(self, message: str) -> str:
        return f"§{message}"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"§{msgid1 if n == 1 else msgid2}"


@pytest.fixture(autouse=True)
def german(monkeypatch):
    monkeypatch.setitem(trans_real._translations, "de", Marked())
    with translation.override("de"):
        yield


def test_what_a_german_writes_down_is_in_the_portals_language(now) -> None:
    desk = make_user("desk", "service desk", "problem manager", "change requester", "requester")
    manager = make_user("max", "change manager")
    incident = report_incident(actor=desk, now=now, title="It hums")
    assign_incident(incident, actor=desk, now=now, assignee=desk)
    declare_major(incident, actor=desk, now=now)
    problem = open_problem(actor=desk, now=now, title="Hum", incidents=[incident])
    document_problem(problem, actor=desk, now=now, root_cause="A fan", workaround="Wait.")
    communicate_workaround(problem, actor=desk, now=now)
    hold_incident(incident, actor=desk, now=now, reason="problem")
    plans = {"implementation_plan": "Replace it.", "backout_plan": "Put it back."}
    change = draft_change(actor=desk, now=now, title="New fan", problems=[problem], **plans)
    submit_change(change, actor=desk, now=now)
    assess_change(change, actor=manager, now=now, risk="low", risk_reason="Small.")
    texts = [entry.text for ticket in (incident, problem, change) for entry in ticket.entries.all()]
    assert "Created." in texts
    assert len([text for text in texts if text]) > 8
    assert not [text for text in texts if "§" in text]


def test_a_refusal_stays_in_the_language_of_whom_it_is_told(now) -> None:
    desk = make_user("desk", "service desk", "requester")
    incident = report_incident(actor=desk, now=now, title="It hums")
    with pytest.raises(InvalidInput) as refusal:
        assign_incident(incident, actor=desk, now=now)
    assert refusal.value.message.startswith("§")
    assert translation.get_language() == "de"
