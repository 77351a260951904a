"""Lists: their pages, views that people keep, columns, files, and what is done with several rows."""

import csv
import io
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Team, User
from incidents.models import Incident
from incidents.services import report_incident, start_incident
from tests.factories import NOW, make_ci, make_user
from tests.portal.story import tell_story
from tests.portal.test_every_page import login
from tickets import paging
from tickets.models import SavedView
from tickets.paging import Sort, read_all, read_page

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk():
    return make_user("desk", "service desk")


def reported(number: int, *, actor=None, **values) -> list[Incident]:
    """Incidents, one a minute; every third is about a CI and assigned."""
    uma = actor or make_user("uma", "requester")
    colleague = make_user("cora", "service desk")
    ci = make_ci("srv-1")
    incidents = []
    for n in range(number):
        given = {"title": f"Printer {n:02d} smokes", "ci": ci if n % 3 == 0 else None, **values}
        now = NOW + timedelta(minutes=n)
        incident = report_incident(actor=uma, now=now, urgency=["low", "high"][n % 2], **given)
        if n % 3 == 0:
            start_incident(incident, actor=colleague, now=now)
        incidents.append(incident)
    return incidents


def numbers(client: Client, address: str) -> list[str]:
    """The numbers on a page of a list, in order."""
    return [incident.number for incident in client.get(address).context["page"].rows]


@pytest.mark.parametrize("is_descending", [False, True])
def test_pages_show_every_row_once_forwards_and_backwards(is_descending: bool) -> None:
    reported(8)
    rows = Incident.objects.all()
    keys = sorted(rows.values_list("pk", flat=True))
    for path in ("pk", "title", "priority", "updated_at", "ci__name", "assignee__username", "resolved_at"):
        sort = Sort(path, path, is_descending)
        everything = [incident.pk for incident in read_all(rows, sort, size=3)]
        assert sorted(everything) == keys, path

        seen, after = [], ""
        while True:
            page = read_page(rows, sort, size=3, total=8, after=after)
            seen += [incident.pk for incident in page.rows]
            after = page.after
            if not after:
                break
        assert seen == everything, path

        back: list[int] = []
        while page.before:
            page = read_page(rows, sort, size=3, total=8, before=page.before)
            back = [incident.pk for incident in page.rows] + back
        assert back == everything[:6], path
        assert page.after, path


def test_a_place_that_is_none_leads_to_the_first_page(desk) -> None:
    reported(2)
    client = login(desk)
    for place in (
        "x",
        "[]",
        "[1]",
        '["a",1]',
        "[1,1e400]",
        "[null,1]",
        '["\\u0000",1]',
        "[1,99999999999999999999]",
        "[" * 2000,
    ):
        for sort in ("number", "updated_at", "title", "priority"):
            answer = client.get("/incidents/", {"sort": sort, "after": place})
            assert answer.status_code == 200, (place, sort)


def test_a_list_tells_how_many_rows_it_has_up_to_a_limit(desk, monkeypatch) -> None:
    reported(6)
    client = login(desk)
    assert "6 of 6" in client.get("/incidents/").content.decode()
    monkeypatch.setattr(paging, "MOST_COUNTED", 5)
    assert "of more than" in client.get("/incidents/").content.decode()


def test_a_list_of_very_many_rows_is_sorted_by_what_has_an_index(desk, monkeypatch) -> None:
    reported(6)
    client = login(desk)
    by_title = numbers(client, "/incidents/?sort=title")
    assert by_title == sorted(by_title)
    for module in ("tickets.paging", "tickets.views_list"):
        monkeypatch.setattr(f"{module}.MOST_COUNTED", 5)
    assert numbers(client, "/incidents/?sort=title") == by_title[::-1]
    heads = {head.name: head.url for head in client.get("/incidents/?sort=title").context["headers"]}
    assert heads["title"] == ""
    assert heads["priority"]


def test_filters_narrow_and_stay_in_the_links(desk) -> None:
    incidents = reported(9)
    client = login(desk)
    cora = client.get("/incidents/?assignee=cora")
    assert [row.pk for row in cora.context["page"].rows] == [incidents[n].pk for n in (6, 3, 0)]
    assert len(numbers(client, "/incidents/?assignee=-")) == 6
    assert len(numbers(client, "/incidents/?requester=uma&created_from=2026-11-02&created_to=2026-11-02")) == 9
    assert numbers(client, "/incidents/?created_to=2026-11-01") == []
    assert numbers(client, "/incidents/?q=smokes 04") == [incidents[4].number]
    assert numbers(client, f"/incidents/?q=inc{incidents[2].pk}") == [incidents[2].number]
    head = next(head for head in cora.context["headers"] if head.name == "priority")
    assert parse_qs(urlsplit(head.url).query) == {"assignee": ["cora"], "sort": ["priority"]}


def test_columns_are_chosen_and_none_that_is_not_for_the_person(desk) -> None:
    reported(2)
    names = [
        head.name for head in login(desk).get("/incidents/?col=number&col=created_at&col=nonsense").context["headers"]
    ]
    assert names == ["choose", "number", "created_at"]
    auditor = login(make_user("audrey", "auditor"))
    assert "choose" not in [head.name for head in auditor.get("/incidents/?col=choose&col=title").context["headers"]]


def test_the_same_list_as_a_file_runs_nothing_in_a_spreadsheet(desk) -> None:
    reported(1, title='=HYPERLINK("http://x")')
    answer = login(desk).get(
        "/incidents/?export=csv&scope=all&col=number&col=title&col=state&col=assignee&col=created_at"
    )
    assert answer.streaming
    assert answer["Content-Disposition"] == 'attachment; filename="incidents.csv"'
    heads, row = csv.reader(io.StringIO(answer.getvalue().decode("utf-8-sig")))
    assert heads == ["Number", "Title", "State", "Assignee", "Created"]
    assert row[1:] == ['\'=HYPERLINK("http://x")', "in progress", "cora", "2026-11-02T09:00:00+00:00"]


def test_a_file_holds_every_row_of_the_list_and_no_other(desk, monkeypatch) -> None:
    monkeypatch.setattr("tickets.csv_export._AT_ONCE", 3)
    incidents = reported(8)
    text = login(desk).get("/incidents/?export=csv&assignee=-").getvalue().decode("utf-8-sig")
    found = [row["Number"] for row in csv.DictReader(io.StringIO(text))]
    assert found == [incidents[n].number for n in (7, 5, 4, 2, 1)]
    stranger = login(make_user("stranger", "requester"))
    assert len(stranger.get("/incidents/?export=csv&scope=all").getvalue().decode().splitlines()) == 1


def keep(client: Client, **values: str):
    return client.post("/lists/keep/", {"page": "incident_list", "name": "Mine", "query": "scope=mine", **values})


# Every list, and who sees all of it.
LISTS = [
    "incident_list", "problem_list", "change_list", "freeze_list", "standard_list", "release_list", "rollout_list",
    "ci_list", "group_list", "registration_list", "gateway_list", "product_list", "environment_list", "image_list",
    "disk_list",
]  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_its_filters_and_each_of_its_heads_sorts(name: str) -> None:
    client = login(User.objects.create_superuser("root"))
    shown = client.get(reverse(name))
    form = shown.context["filter"].form
    assert form.fields
    for field in form:
        assert f'name="{field.html_name}"' in shown.content.decode(), field.html_name
    for head in shown.context["headers"]:
        if head.url:
            assert client.get(head.url).status_code == 200, head.name


def test_a_view_belongs_to_its_list_and_not_to_its_section() -> None:
    client = login(User.objects.create_superuser("root"))
    page = client.get("/changes/freezes/").context["save_form"].initial["page"]
    kept = client.post("/lists/keep/", {"page": page, "name": "Mine", "query": "q=x"})
    assert kept["Location"] == "/changes/freezes/?q=x"
    assert client.get("/changes/").context["saved_views"] == []


def test_a_view_that_is_refused_leads_back_to_its_list(desk) -> None:
    client = login(desk)
    assert keep(client, name="")["Location"] == "/incidents/?scope=mine"
    assert keep(client, query="q=" + 900 * "ä")["Location"].startswith("/incidents/?q=")
    assert not SavedView.objects.exists()


def test_a_view_is_kept_shown_and_forgotten(desk) -> None:
    client = login(desk)
    assert (
        keep(client, query="sort=title&scope=mine&after=x&priority=")["Location"] == "/incidents/?scope=mine&sort=title"
    )
    shown = client.get("/incidents/?sort=title&scope=mine").context["saved_views"]
    ((view, url, is_active, is_own),) = shown
    assert (view.name, url, is_active, is_own) == ("Mine", "/incidents/?scope=mine&sort=title", True, True)
    keep(client, query="scope=all")
    assert SavedView.objects.get().query == "scope=all"
    client.post(f"/lists/{view.pk}/forget/")
    assert not SavedView.objects.exists()


def test_a_view_is_shared_with_a_team_and_only_its_owner_forgets_it(desk) -> None:
    team = Team.objects.create(name="Tills")
    other = Team.objects.create(name="Others")
    member, stranger = make_user("mel", "service desk"), make_user("sam", "service desk")
    team.members.set([desk, member])
    keep(login(desk), team=str(team.pk))
    view = SavedView.objects.get()
    assert [row[0] for row in login(member).get("/incidents/").context["saved_views"]] == [view]
    assert login(stranger).get("/incidents/").context["saved_views"] == []
    assert login(member).post(f"/lists/{view.pk}/forget/").status_code == 404
    keep(login(desk), name="Stolen", team=str(other.pk))
    assert SavedView.objects.count() == 1


@pytest.mark.parametrize("page", ["home", "incident_detail", "nonsense_list", "https://example.org/_list"])
def test_views_are_kept_of_lists_only(desk, page: str) -> None:
    assert keep(login(desk), page=page)["Location"] == "/"
    assert not SavedView.objects.exists()


def test_one_order_for_several_rows_tells_what_became_of_each(desk) -> None:
    first, second, third = reported(3)
    client = login(desk)
    picked = [incident.number for incident in (first, second, third)]
    asked = client.get("/incidents/bulk/assign/", {"pick": picked})
    assert [row.pk for row in asked.context["chosen"]] == [first.pk, second.pk, third.pk]
    done = client.post("/incidents/bulk/start/", {"pick": picked}).context["results"]
    assert [(result.object.pk, result.is_done) for result in done] == [
        (first.pk, False), (second.pk, True), (third.pk, True),
    ]  # fmt: skip
    assert "possible only from" in done[0].text
    assert set(Incident.objects.values_list("state", flat=True)) == {"in_progress"}
    assert Incident.objects.get(pk=second.pk).assignee == desk


def test_what_the_verb_needs_is_asked_once(desk) -> None:
    reported(2)
    client, picked = login(desk), [incident.number for incident in Incident.objects.all()]
    refused = client.post("/incidents/bulk/cancel/", {"pick": picked, "reason": ""})
    assert refused.status_code == 400
    assert refused.context["form"].errors
    client.post("/incidents/bulk/cancel/", {"pick": picked, "reason": "A drill."})
    assert set(Incident.objects.values_list("state", flat=True)) == {"cancelled"}


def test_what_was_typed_stays_where_nothing_was_done(desk) -> None:
    (incident,) = reported(1)
    refused = login(desk).post("/incidents/bulk/assign/", {"pick": [incident.number], "comment": "to whom?"})
    assert [result.is_done for result in refused.context["results"]] == [False]
    assert refused.context["form"] is not None


def test_a_mark_between_words_is_no_word(desk) -> None:
    reported(2)
    assert len(numbers(login(desk), "/incidents/?q=Printer+-+smokes")) == 2


def test_behind_a_place_that_has_emptied_the_first_page_comes(desk) -> None:
    reported(3)
    assert len(numbers(login(desk), "/incidents/?sort=number&after=[1,999999]")) == 3


def test_several_rows_need_the_same_right_as_one(desk) -> None:
    (incident,) = reported(1)
    uma = login(incident.requester)
    assert "assign" not in {action.name for action in uma.get("/incidents/").context["actions"]}
    (result,) = uma.post("/incidents/bulk/resolve/", {"pick": [incident.number], "resolution": "x"}).context["results"]
    assert not result.is_done
    stranger = login(make_user("stranger", "requester"))
    assert stranger.post("/incidents/bulk/resolve/", {"pick": [incident.number]}).context["chosen"] == []
    assert login(desk).get("/incidents/bulk/declare_major/", {"pick": [incident.number]}).status_code == 404
    incident.refresh_from_db()
    assert incident.state == "in_progress"


def test_cells_are_those_of_the_library() -> None:
    """The table works out once for a page what the library works out for each cell; both show the same."""
    client = login(tell_story(4).admin)
    compared = 0
    for address in ("/incidents/", "/problems/", "/changes/", "/releases/", "/rollouts/", "/cis/", "/software/"):
        shown = client.get(address, {"scope": "all"}).context["table"]
        for exclude in (shown.exclude, ()):
            table = type(shown)(shown.data.data, order_by=(), exclude=exclude, request=shown.request)
            theirs = [[str(row.get_cell(column.name)) for column in table.columns] for row in table.rows]
            assert [[str(cell) for _css, cell in line] for line in table.lines()] == theirs, address
            compared += len(theirs)
    assert compared > 20
