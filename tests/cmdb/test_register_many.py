"""Many CIs at once, by list or by CSV: each row for itself, and what goes out comes back in."""

import csv
import io
import threading
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from rest_framework.test import APIClient

from accounts.models import Team
from cmdb.models import AgentProfile, CIClass, ConfigurationItem
from cmdb.registration import export_csv, plain, register_csv, register_many
from tests.factories import NOW, make_ci, make_user
from tickets.csv_export import defused
from tickets.exceptions import InvalidInput, PermissionRefused


@pytest.fixture
def server(db: None) -> CIClass:
    return CIClass.objects.create(name="Server", slug="server")


def register(*items: Any) -> list[Any]:
    return register_many(items, actor=None, now=NOW)


def refusals(rows: list[Any]) -> list[str]:
    return [row.refusal.field if row.refusal else "" for row in rows]


def test_one_bad_item_does_not_lose_the_others(server) -> None:
    make_ci("taken", ci_class=server, agent_id="taken")
    good = {"ci_class": "server"}
    rows = register(
        {"name": "srv-1", **good},
        {"name": "taken", **good},
        {"name": "srv-2", "agent_id": "taken", **good},
        {"name": "srv-1", **good},
        {"name": "srv-3", "ci_class": "spaceship"},
        {"name": "srv-4", "owner": "nobody", **good},
        {"name": "", **good},
        {"name": "srv-5", "agent_id": "../etc", **good},
        {"name": "srv-6", "lifecycle": "lost", **good},
        {"name": "srv-7\n", **good},
        {"name": 7, **good},
        {"colour": "red", "name": "srv-8", **good},
        "srv-9",
        {"name": "srv-2", "agent_id": "srv-2", **good},
    )
    assert refusals(rows) == [
        "", "name", "agent_id", "name", "ci_class", "owner", "name", "agent_id", "lifecycle", "name", "name", "", "",
        "",
    ]  # fmt: skip
    assert [row.ci.name for row in rows if row.ci] == ["srv-1", "srv-2"]
    assert ConfigurationItem.objects.count() == 3


def test_every_column_arrives(server) -> None:
    anna, team = make_user("anna"), Team.objects.create(name="Plant 1")
    profile = AgentProfile.objects.create(name="own kind")
    (row,) = register(
        {
            "name": "srv-1", "ci_class": "server", "owner": "anna", "team": "Plant 1", "description": "In the cellar",
            "agent_id": "srv-1", "agent_profile": "own kind", "lifecycle": "in_stock",
        }
    )  # fmt: skip
    ci = ConfigurationItem.objects.get(pk=row.ci.pk)
    assert (ci.owner, ci.team, ci.agent_profile, ci.lifecycle) == (anna, team, profile, "in_stock")
    assert (ci.agent_id, ci.description, ci.created_at) == ("srv-1", "In the cellar", NOW)


def test_a_thousand_cost_as_many_queries_as_ten(server, django_assert_num_queries) -> None:
    make_user("anna")
    for size in (10, 1000):
        items = [
            {"name": f"{size}-{n}", "ci_class": "server", "owner": "anna", "agent_id": f"{size}-{n}"}
            for n in range(size)
        ]
        with django_assert_num_queries(7):
            assert all(row.ci for row in register(*items))
    with pytest.raises(InvalidInput):
        register(*[{}] * 1001)


def test_it_needs_the_right(server) -> None:
    outsider = make_user("otto", "release engineer")
    for call in (
        lambda: register_many([], actor=outsider, now=NOW),
        lambda: register_csv(b"", actor=outsider, now=NOW),
    ):
        with pytest.raises(PermissionRefused):
            call()


def test_a_csv_file_says_the_line_of_each_error(server) -> None:
    data = '﻿name;ci_class;description\r\nsrv-1;server;"two\r\nlines"\r\n\r\nsrv-2;none;\r\nsrv-3\r\n'
    rows = register_csv(data.encode(), actor=None, now=NOW)
    assert [(row.line, bool(row.ci)) for row in rows] == [(2, True), (5, False), (6, False)]
    assert ConfigurationItem.objects.get().description == "two\r\nlines"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"name\nsrv-1",
        b"name,ci_class,colour\n",
        b"name,name,ci_class\n",
        b"name,ci_class\nx\0,server",
    ],
)
def test_what_is_no_such_file_is_refused(server, data: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        register_csv(data, actor=None, now=NOW)
    assert refused.value.field == "file"


def test_the_api_answers_for_each_item(server) -> None:
    client = APIClient()
    client.force_authenticate(make_user("adam", "administrator"))
    answer = client.post("/api/v1/cis/bulk/", {"items": [{"name": "srv-1", "ci_class": "server"}, {"name": "srv-1"}]})
    found = answer.json()
    assert (answer.status_code, found["created"], found["refused"]) == (200, 1, 1)
    assert found["results"][0]["number"] == ConfigurationItem.objects.get().number
    assert found["results"][1]["error"] == {"code": "invalid", "detail": "This is needed.", "attr": "ci_class"}
    lines = client.post(
        "/api/v1/cis/import_csv/", b"name,ci_class\nsrv-2,server\nsrv-2,server", content_type="text/csv"
    )
    assert [row["line"] for row in lines.json()["results"] if row["error"]] == [3]
    assert client.post("/api/v1/cis/import_csv/", b"", content_type="text/csv").json()["errors"][0]["attr"] == "file"
    exported = b"".join(client.get("/api/v1/cis/export/?q=srv-2").streaming_content).decode()
    assert "srv-2" in exported
    assert "srv-1" not in exported
    assert client.post("/api/v1/cis/bulk/", {"items": {}}).json()["errors"][0]["attr"] == "items"


def test_everybody_exports_what_he_sees(server) -> None:
    anna = make_user("anna", "requester")
    make_ci("mine", ci_class=server, owner=anna)
    make_ci("other", ci_class=server)
    client = Client()
    client.force_login(anna)
    text = b"".join(client.get("/cis/export/").streaming_content).decode()
    assert "mine" in text
    assert "other" not in text


def test_the_page_says_what_was_refused(server) -> None:
    client = Client()
    client.force_login(make_user("adam", "administrator"))
    file = SimpleUploadedFile("cis.csv", b"name,ci_class\nsrv-1,server\n<b>,none\n")
    page = client.post("/cis/import/", {"file": file}).content.decode()
    assert "1 CI registered" in page
    assert "There is no “none”" in page
    assert client.post("/cis/import/", {"file": SimpleUploadedFile("x", b"\xff")}).status_code == 400


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "'=1", "'"])
def test_no_cell_is_run_by_a_spreadsheet(cell: str) -> None:
    assert defused(cell).startswith("'")
    assert plain(defused(cell)) == cell


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("=+-@';,\""), max_size=12
)


class RoundTrip(TestCase):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(words, words), max_size=8))
    def test_what_is_exported_can_be_imported(self, found: list[tuple[str, str]]) -> None:
        CIClass.objects.create(name="Server", slug="server")
        rows = register(*[{"name": name, "ci_class": "server", "description": text} for name, text in found])
        made = {row.ci.name: row.ci.description for row in rows if row.ci}
        text = "".join(export_csv(ConfigurationItem.objects.all()))
        for line in csv.reader(io.StringIO(text)):
            assert not any(cell[:1] in tuple("=+-@\t\r") and cell for cell in line)
        ConfigurationItem.objects.all().delete()
        register_csv(text.encode(), actor=None, now=NOW)
        assert dict(ConfigurationItem.objects.values_list("name", "description")) == made


@pytest.mark.django_db(transaction=True)
def test_two_importers_at_once_lose_nothing_and_double_nothing() -> None:
    CIClass.objects.create(name="Server", slug="server")
    names = [f"srv-{n}" for n in range(60)]
    results: list[list[Any]] = []
    start = threading.Barrier(4)

    def work(order: list[str]) -> None:
        try:
            start.wait(timeout=30)
            results.append(register(*[{"name": name, "ci_class": "server"} for name in order]))
        finally:
            connection.close()

    parts = [names[n * 10 : n * 10 + 30] for n in range(4)]
    orders = [part[:: 1 if n % 2 else -1] for n, part in enumerate(parts)]
    threads = [threading.Thread(target=work, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    made = [row.ci.name for rows in results for row in rows if row.ci]
    assert len(results) == 4
    assert sorted(made) == sorted(names)
    assert set(ConfigurationItem.objects.values_list("name", flat=True)) == set(names)
