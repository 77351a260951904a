"""What holds for every page: it opens, it is shut to strangers, it keeps the policy, it costs the same at any size."""

import json
import re
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver

from cmdb.models import Relation
from itsm_portal import portal_urls
from releases.models import Release, Rollout, RolloutEvent, RolloutException
from tests.factories import NOW
from tests.portal.pages import pages_of, staff_pages_of
from tests.portal.story import tell_story

PINNED = Path(__file__).parent / "query_counts.json"
# Open without signing in, and why.
EXEMPT_PREFIX = "account_"  # signing in, out and password resets are the door itself

INLINE = re.compile(r"<script(?![^>]*\bsrc=)|\sstyle\s*=|<style|\son[a-z]+\s*=\s*[\"']|javascript:", re.IGNORECASE)
# What SVG and controls measure: plain figures in every language.
FIGURE = re.compile(r"""\s(?:[xy][12]?|r|width|height|max|min|step|dy|maxlength)="([^"]*)\"""")
PLAIN_FIGURE = re.compile(r"-?\d*(\.\d+)?(%|em)?|any|[\d:T-]+")
ADDRESS = re.compile(r"(?:href|src|action|hx-get|hx-post)=[\"'](?:[a-z]+:)?//", re.IGNORECASE)


def login(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.django_db
@pytest.mark.parametrize("size", [6, 18])
@pytest.mark.parametrize("who", ["manager", "requester"])
def test_a_page_costs_the_same_number_of_queries_at_any_size(who: str, size: int) -> None:
    story = tell_story(size)
    pinned = json.loads(PINNED.read_text())[who]
    client = login(getattr(story, who))
    found = {}
    for name, address in pages_of(story).items():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address).status_code == 200, name
        found[name] = len(queries)
    assert found == pinned, f"if this is meant, pin in {PINNED.name}: {json.dumps(found)}"


@pytest.mark.django_db
@pytest.mark.parametrize("size", [6, 18])
def test_a_plan_that_is_still_ahead_costs_the_same_at_any_size(size: int) -> None:
    story = tell_story(size)
    address = pages_of(story)["release plan"]
    client = login(story.manager)
    assert "Targets now" not in client.get(address).content.decode(), "it has its targets"
    Release.objects.filter(pk=story.release.pk).update(state="planned")
    with CaptureQueriesContext(connection) as queries:
        text = client.get(address).content.decode()
    assert "Targets now" in text
    assert len(queries) == json.loads(PINNED.read_text())["plan ahead"]


@pytest.mark.django_db
def test_every_page_keeps_the_strict_policy() -> None:
    story = tell_story(4)
    client = login(story.admin)
    for name, address in {**pages_of(story), **staff_pages_of(story)}.items():
        response = client.get(address)
        assert response.status_code == 200, name
        policy = response["Content-Security-Policy"]
        assert "default-src 'none'" in policy, name
        assert "unsafe" not in policy, name
        text = response.content.decode()
        assert not INLINE.search(text), (name, INLINE.findall(text))
        assert not ADDRESS.search(text), (name, ADDRESS.findall(text))


def let_keys_begin_at(first: int) -> None:
    """For this test only: unlike `setval`, a restart goes with the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'ALTER SEQUENCE "{name}" RESTART WITH {first}')


@pytest.mark.django_db
def test_numbers_are_written_as_the_reader_does_but_no_key_and_no_figure_of_a_machine() -> None:
    let_keys_begin_at(1_234_000)
    story = tell_story(4)
    Rollout.objects.filter(pk=story.rollout.pk).update(target_count=54_321)
    story.admin.language = "de"
    story.admin.save()
    client = login(story.admin)
    texts = {}
    for name, address in {**pages_of(story), **staff_pages_of(story)}.items():
        texts[name] = text = client.get(address).content.decode()
        assert "1.234." not in text, f"{name}: a key is no number of things"
        wrong = [found for found in FIGURE.findall(text) if not PLAIN_FIGURE.fullmatch(found)]
        assert not wrong, f"{name}: a browser cannot read {wrong}"
    assert "54.321" in texts["release rollout"]


@pytest.mark.django_db
def test_a_page_for_staff_is_shut_to_a_requester() -> None:
    story = tell_story(2)
    client = login(story.requester)
    # A verb's form may be opened by whoever sees the ticket; the service refuses him (other tests).
    for name, address in staff_pages_of(story).items():
        expected = {200, 403} if name in {"resolve", "pause", "roll back"} else {403, 404}
        if name == "environments":
            expected = {403}
        assert client.get(address).status_code in expected, name


def addresses(patterns, prefix: str = "/"):
    """Every address of the portal with example values."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            for kind, value in (
                ("<str:number>", "INC-0000001"),
                ("<slug:verb>", "resolve"),
                ("<slug:slug>", "billing"),
            ):
                route = route.replace(kind, value)
            yield pattern.name, re.sub(r"<[^>]+>", "1", route)


@pytest.mark.django_db
def test_every_address_asks_strangers_to_sign_in() -> None:
    client = Client()
    seen = 0
    for name, address in addresses(portal_urls.urlpatterns):
        if name.startswith(EXEMPT_PREFIX):
            continue
        for method in (client.get, client.post):
            response = method(address)
            if response.status_code == 405:
                continue
            assert response.status_code == 302, (name, response.status_code)
            assert response["Location"].startswith("/accounts/login/"), name
            seen += 1
    assert seen > 60


@pytest.mark.django_db
def test_what_somebody_may_not_see_does_not_exist_for_him() -> None:
    story = tell_story(3)
    client = login(story.outsider)
    for ticket, folder in (
        (story.incidents[0], "incidents"),
        (story.problem, "problems"),
        (story.change, "changes"),
        (story.release, "releases"),
        (story.rollout, "rollouts"),
        (story.cis[0], "cis"),
        (story.environment, "environments"),
    ):
        assert client.get(f"/{folder}/{ticket.number}/").status_code == 404, folder
    assert client.get(f"/rollouts/{story.rollout.number}/live/").status_code == 404
    assert client.post(f"/incidents/{story.incidents[0].number}/comment/", {"text": "x"}).status_code == 404
    assert story.incidents[0].number not in client.get("/incidents/?scope=all").content.decode()
    assert "Wrong invoice" not in client.get("/search/?q=invoice").content.decode()


@pytest.mark.django_db
def test_pages_that_a_requester_may_open_name_no_ci_of_somebody_else() -> None:
    story = tell_story(6)
    RolloutException.objects.create(
        release=story.release, rollout=story.rollout, ci=story.cis[1], kind="no_way_back", reason="-", created_at=NOW
    )
    RolloutEvent.objects.create(rollout=story.rollout, kind="excluded", text=f"{story.cis[1]}: broken", at=NOW)
    Relation.objects.create(source=story.cis[0], target=story.cis[1])
    foreign = [ci.name for ci in story.cis if ci.owner != story.requester] + [str(story.environment.copy)]
    client = login(story.requester)
    for name, address in pages_of(story).items():
        # Lists of his own incidents name the CI that he reported.
        text = re.sub(r"Wrong invoice on srv-\d+", "", client.get(address).content.decode())
        if name not in {"incidents", "incident", "home", "problem"}:
            assert not [ci for ci in foreign if ci in text], name


@pytest.mark.django_db
def test_a_form_without_its_token_is_refused() -> None:
    story = tell_story(2)
    client = Client(enforce_csrf_checks=True)
    client.force_login(story.desk)
    assert client.post(f"/incidents/{story.incidents[1].number}/start/").status_code == 403


@pytest.mark.django_db
def test_a_number_in_another_spelling_opens_the_page() -> None:
    story = tell_story(2)
    client = login(story.desk)
    key = story.incidents[0].pk
    assert client.get(f"/incidents/inc{key}/").status_code == 200
    assert client.get(f"/incidents/PRB-{key}/").status_code == 404
    assert client.get(f"/search/?q=inc {key}")["Location"] == f"/incidents/{story.incidents[0].number}/"


@pytest.mark.django_db
def test_the_theme_stays_with_the_person_and_leads_nowhere_else() -> None:
    story = tell_story(1)
    client = login(story.requester)
    answer = client.post("/theme/", {"theme": "dark", "next": "https://example.org/"})
    assert answer["Location"] == "/"
    assert 'data-bs-theme="dark"' in client.get("/").content.decode()
