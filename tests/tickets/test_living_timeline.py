"""The timeline in parts, who else has the ticket open, people mentioned, people who watch."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from changes.models import ChangeEntry
from incidents.models import Incident, IncidentEntry
from incidents.services import comment_incident, edit_incident, report_incident
from problems.models import ProblemEntry
from releases.models import ReleaseEntry
from tests.factories import NOW, make_user
from tickets import presence
from tickets.exceptions import InvalidInput, PermissionRefused
from tickets.forms import AssignForm
from tickets.mentions import names_in
from tickets.models import EntryKind
from tickets.notices import watchers_who_see
from tickets.text import MOST_CELLS, render_markdown
from tickets.watching import add_watcher, follow, remove_watcher

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk():
    return make_user("desk", "service desk", first_name="Dana", last_name="Desk")


@pytest.fixture
def uma():
    return make_user("uma", "requester", first_name="Uma", last_name="User")


@pytest.fixture
def incident(uma) -> Incident:
    return report_incident(actor=uma, now=NOW, title="Printer burns")


def sign_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def fill(incident: Incident, author, count: int) -> None:
    IncidentEntry.objects.bulk_create(
        IncidentEntry(
            ticket=incident,
            kind=EntryKind.COMMENT,
            author=author,
            text=f"Word {n}",
            created_at=NOW + timedelta(seconds=n),
        )
        for n in range(count)
    )


@pytest.mark.parametrize("model", [IncidentEntry, ProblemEntry, ChangeEntry, ReleaseEntry])
def test_the_newest_entries_are_read_in_the_order_of_an_index(model) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off")
    plan = model.objects.filter(ticket=1).order_by("-created_at", "-id")[:51].explain()
    assert f"{model._meta.model_name}_newest" in plan
    assert "Sort" not in plan


def test_a_ticket_with_5000_entries_opens_with_as_many_queries_and_a_page_of_rows(desk, incident) -> None:
    client, address = sign_in(desk), f"/incidents/{incident.number}/"
    with CaptureQueriesContext(connection) as few:
        client.get(address)
    fill(incident, desk, 5000)
    with CaptureQueriesContext(connection) as many:
        text = client.get(address).content.decode()
    assert len(many) == len(few)
    assert text.count('class="timeline-entry ') == 50
    assert "Word 4999" in text
    assert "Word 4949" not in text


def test_older_entries_follow_without_a_gap_or_a_repetition(desk, incident) -> None:
    fill(incident, desk, 120)
    client, address = sign_in(desk), f"/tickets/{incident.number}/timeline/"
    part, seen = client.get(address).context["part"], []
    while True:
        seen += [entry.text for entry in part.entries]
        if part.older is None:
            break
        part = client.get(f"{address}?before={part.older}").context["part"]
    assert [text for text in seen if text.startswith("Word")] == [f"Word {n}" for n in reversed(range(120))]
    # The same without scripts, on the page itself.
    first = client.get(f"/incidents/{incident.number}/").context["part"]
    assert "Word 69" in client.get(f"/incidents/{incident.number}/?before={first.older}").content.decode()


def test_comments_and_changes_are_looked_at_alone(desk, incident) -> None:
    comment_incident(incident, actor=desk, now=NOW, text="Spoken")
    comment_incident(incident, actor=desk, now=NOW, text="Whispered", public=False)
    edit_incident(incident, actor=desk, now=NOW, urgency="high")
    kinds = {
        only: {
            entry.kind
            for entry in sign_in(desk).get(f"/incidents/{incident.number}/?only={only}").context["part"].entries
        }
        for only in ("", "comments", "changes", "nonsense")
    }
    assert kinds["comments"] == {"comment", "note"}
    assert kinds["changes"] == {"state", "system"}
    assert kinds[""] == kinds["nonsense"] == kinds["comments"] | kinds["changes"]


def test_new_entries_come_to_an_open_page_and_notes_only_to_those_who_read_them(desk, uma, incident) -> None:
    after = incident.entries.latest("id").pk
    hers, his = sign_in(uma), sign_in(desk)
    address = f"/tickets/{incident.number}/live/?after={after}&version=1"
    assert hers.get(address).status_code == 204
    comment_incident(incident, actor=desk, now=NOW, text="Whispered", public=False)
    assert hers.get(address).status_code == 204
    shown = his.get(address).content.decode()
    assert "Whispered" in shown
    assert 'hx-swap-oob="afterbegin:#entries"' in shown
    edit_incident(incident, actor=desk, now=NOW, urgency="high")
    assert "changed this ticket" in hers.get(address).content.decode()
    assert sign_in(make_user("otto", "requester")).get(address).status_code == 404


def test_people_of_the_desk_see_who_else_has_it_open_and_who_writes(desk, uma, incident) -> None:
    other = make_user("carl", "service desk", first_name="Carl", last_name="Colleague")
    address = f"/tickets/{incident.number}/live/"
    presence._client().delete(presence._key(incident.number))
    colleague = sign_in(other)
    with CaptureQueriesContext(connection) as queries:
        assert colleague.get(f"{address}?after=999999999&writing=1").status_code == 204
    assert not [q for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    shown = sign_in(desk).get(f"{address}?after=999999999").content.decode()
    assert "Carl Colleague" in shown
    assert "is writing" in shown
    # Nothing is sent again that the page shows already.
    assert sign_in(desk).get(f"{address}?after=999999999&seen=Carl Colleague*").status_code == 204
    assert sign_in(uma).get(f"{address}?after=999999999").status_code == 204
    gone = NOW.replace(year=2030)
    assert presence.meet(incident.number, desk, is_writing=False, now=gone) == []


def test_a_mentioned_person_is_told_once_and_watches(desk, uma, incident) -> None:
    carl = make_user("carl", "service desk")
    comment_incident(incident, actor=desk, now=NOW, text="@Carl, look. And mail a@carl.example, @nobody.")
    assert list(incident.watchers.all()) == [carl]
    assert carl.notices.filter(thread=incident.number).count() == 1
    assert "mentioned" in carl.notices.get(thread=incident.number).subject
    assert uma.notices.filter(event__contains=":comment:").count() == 1


def test_an_internal_note_is_told_to_nobody_who_may_not_read_it(desk, uma, incident) -> None:
    otto = make_user("otto", "requester")
    comment_incident(incident, actor=desk, now=NOW, text="@uma @otto do not know", public=False)
    comment_incident(incident, actor=desk, now=NOW, text="@otto neither")
    assert not incident.watchers.exists()
    assert not otto.notices.exists()
    assert not uma.notices.filter(text__contains="do not know").exists()


@pytest.mark.parametrize(
    ("text", "names"),
    [("@a.b. @A.B, @c", ["a.b", "c"]), ("x@y.z /@q @@w", []), ("(@dana)", ["dana"]), ("@", [])],
)
def test_names_are_what_follows_an_at_sign_of_its_own(text: str, names: list[str]) -> None:
    assert names_in(text) == names


def test_proposals_are_people_who_may_read_it(desk, uma, incident) -> None:
    make_user("umbert", "requester")
    make_user("ulla", "service desk")
    address = f"/tickets/{incident.number}/people/?q=u"
    found = [one["username"] for one in sign_in(desk).get(address).json()["people"]]
    assert found == ["ulla", "uma"]
    assert [one["username"] for one in sign_in(desk).get(f"{address}&note=1").json()["people"]] == ["ulla"]
    assert sign_in(uma).get(address).json()["people"] == []


def test_a_preview_is_what_the_stored_text_will_look_like(desk) -> None:
    text = "**bold** <script>alert(1)</script> [x](javascript:alert(1))"
    shown = sign_in(desk).post("/tickets/preview/", {"text": text}).content.decode()
    assert "<strong>bold</strong>" in shown
    assert "<script" not in shown
    assert "href" not in shown


def test_a_preview_without_scripts_writes_nothing(desk, incident) -> None:
    before = incident.entries.count()
    answer = sign_in(desk).post(f"/incidents/{incident.number}/comment/", {"text": "**Hm**", "preview": "1"})
    assert "<strong>Hm</strong>" in answer.content.decode()
    assert incident.entries.count() == before


def test_one_follows_and_others_are_added_if_they_may_see_it(desk, uma, incident) -> None:
    address, client = f"/tickets/{incident.number}/watchers/", sign_in(desk)
    client.post(address, {"follow": "1"})
    assert list(incident.watchers.all()) == [desk]
    ulla = make_user("ulla", "service desk")
    client.post(address, {"person": "ulla"})
    assert ulla in incident.watchers.all()
    assert incident.entries.latest("id").text == "ulla watches."
    otto = make_user("otto", "requester")
    with pytest.raises(InvalidInput):
        add_watcher(incident, actor=desk, now=NOW, person=otto)
    with pytest.raises(PermissionRefused):
        add_watcher(incident, actor=make_user("audit", "auditor"), now=NOW, person=ulla)
    client.post(address, {"remove": ulla.pk})
    client.post(address, {"unfollow": "1"})
    assert not incident.watchers.exists()
    assert sign_in(otto).post(address, {"follow": "1"}).status_code == 404


@pytest.mark.parametrize("way", ["unfollow", "remove"])
def test_who_unfollowed_is_told_of_a_mention_and_does_not_watch_again(way: str, desk, uma, incident) -> None:
    carl = make_user("carl", "service desk")
    address, client = f"/tickets/{incident.number}/watchers/", sign_in(carl)
    client.post(address, {"follow": "1"})
    client.post(address, {way: carl.pk})
    comment_incident(incident, actor=desk, now=NOW, text="@carl, once more.")
    assert not incident.watchers.exists()
    assert carl.notices.filter(event__contains=":comment:").count() == 1
    comment_incident(incident, actor=desk, now=NOW, text="Nobody is named.")
    assert carl.notices.filter(event__contains=":comment:").count() == 1

    client.post(address, {"follow": "1"})
    assert list(incident.watchers.all()) == [carl]
    client.post(address, {"unfollow": "1"})
    add_watcher(incident, actor=desk, now=NOW, person=carl)
    assert list(incident.watchers.all()) == [carl]
    assert not incident.unfollowed.exists()


def test_who_is_taken_off_by_somebody_else_watches_again_when_mentioned(desk, uma, incident) -> None:
    carl = make_user("carl", "service desk")
    add_watcher(incident, actor=desk, now=NOW, person=carl)
    remove_watcher(incident, actor=desk, person=carl)
    comment_incident(incident, actor=desk, now=NOW, text="@carl, after all.")
    assert list(incident.watchers.all()) == [carl]


def test_a_full_list_refuses_new_ones_only(desk, uma, incident, monkeypatch) -> None:
    monkeypatch.setattr("tickets.watching.MOST_WATCHERS", 1)
    follow(incident, actor=desk)
    follow(incident, actor=desk)
    with pytest.raises(InvalidInput):
        follow(incident, actor=make_user("carl", "service desk"))
    assert list(incident.watchers.all()) == [desk]


def test_watching_opens_no_door_and_who_lost_the_right_is_told_nothing(desk, uma, incident) -> None:
    former = make_user("former", "service desk")
    sign_in(former).post(f"/tickets/{incident.number}/watchers/", {"follow": "1"})
    former.groups.clear()
    former = type(former).objects.get(pk=former.pk)
    assert former in incident.watchers.all()
    assert not Incident.objects.visible_to(former).exists()
    comment_incident(incident, actor=uma, now=NOW, text="My password is on the note")
    assert not former.notices.exists()
    # Whose CI it is, or who has the right, still hears of it.
    sign_in(desk).post(f"/tickets/{incident.number}/watchers/", {"follow": "1"})
    comment_incident(incident, actor=uma, now=NOW, text="And now?")
    assert desk.notices.filter(text__contains="And now?").count() == 1


def test_telling_watchers_costs_the_same_for_any_number_of_colleagues(desk, uma, incident) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            assert len(watchers_who_see(incident)) == incident.watchers.count()
        return len(found)

    incident.watchers.add(desk)
    one = queries()
    incident.watchers.add(*(make_user(f"colleague{n}", "service desk") for n in range(5)))
    assert queries() == one


def test_a_mention_makes_no_more_watchers_than_there_is_room_for(desk, incident, monkeypatch) -> None:
    monkeypatch.setattr("tickets.mentions.MOST_WATCHERS", 1)
    for name in ("ada", "ben"):
        make_user(name, "service desk")
    comment_incident(incident, actor=desk, now=NOW, text="@ada @ben look")
    assert incident.watchers.count() == 1
    assert IncidentEntry.objects.filter(text__startswith="@ada").exists()


def test_who_may_not_look_for_people_is_offered_no_field_for_them(desk, uma, incident) -> None:
    page = f"/incidents/{incident.number}/"
    assert 'name="person"' in sign_in(desk).get(page).content.decode()
    assert 'name="person"' not in sign_in(uma).get(page).content.decode()
    assert "assignee" in AssignForm(instance=incident, user=desk).fields
    assert "assignee" not in AssignForm(instance=incident, user=uma).fields
    sign_in(uma).post(f"/tickets/{incident.number}/watchers/", {"person": "desk"})
    assert not incident.watchers.exists()


def test_a_text_orders_no_more_cells_than_a_table_may_have() -> None:
    table = "|a" * 50 + "|\n" + "|-" * 50 + "|\n"
    assert render_markdown(table + "|\n" * 30).count("<td>") == 1500
    for text in (table + "|\n" * 20_000, table + "x\n" * 9_000, (table + "|\n" * 20 + "\n") * 60, "> " + table * 80):
        shown = render_markdown(text[:20_000])
        assert shown.count("<td>") <= MOST_CELLS
        assert len(shown) < 100_000


def test_a_small_table_stays_one_however_lines_end_and_whatever_stands_beside_it() -> None:
    """Browsers send a carriage return with each line; a line of dashes that is no delimiter is read once."""
    small = "| a | b | c | d |\n|---|---|---|---|\n| 1 | 2 | 3 | 4 |\n\n" + "A paragraph.\n\n" * 300
    for text in (small, small.replace("\n", "\r\n"), small + "-" * 20_000 + "x"):
        assert render_markdown(text).count("<td>") == 4
