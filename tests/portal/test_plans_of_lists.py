"""Lists and searches of a large portal are answered by indexes, and never look at every ticket."""

import json
import re
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from tests.portal.test_every_page import login

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

# With these numbers of rows; smaller tables are rightly read as a whole.
BIG = {"incidents_incident", "incidents_incidententry", "notifications_outbox"}
# Not those that most tickets answer to: what is found everywhere is rightly read in order, up to a limit.
ADDRESSES = (
    "/incidents/", "/incidents/?sort=priority", "/incidents/?sort=-updated_at", "/incidents/?sort=number",
    "/incidents/?scope=mine", "/incidents/?scope=requested", "/incidents/?scope=all", "/incidents/?state=new",
    "/incidents/?scope=all&sort=priority", "/incidents/?scope=all&sort=-updated_at", "/incidents/?state=on_hold",
    "/incidents/?scope=all&priority=1", "/incidents/?scope=all&q=E4711",
    "/incidents/?team={team}", "/incidents/?assignee={agent}", "/incidents/?scope=all&requester={person}",
    "/changes/", "/problems/", "/search/?q=certificate",
    "/search/?q=E4711", "/search/?q=slow+closing",
)  # fmt: skip
# What few rows have, or none, is not looked for in order: in a large table the database may choose to go through all of
# it from the newest on. With the rows of this test it does not yet, so the statement is looked at, not its plan.
RARE = ("/search/?q=E4711", "/search/?q=slow+closing")
IN_ORDER = re.compile(r'(@@|LIKE UPPER)[^"]+\)+ ORDER BY "incidents_incident"."id" DESC LIMIT')


def scanned(plan: dict) -> set[str]:
    """The tables that a plan reads from end to end; a limit right above a scan without a condition stops it."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    parts = plan.get("Plans", ())
    if plan["Node Type"] == "Limit":
        parts = [part for part in parts if part["Node Type"] != "Seq Scan" or "Filter" in part]
    return found.union(*(scanned(part) for part in parts))


def test_no_list_and_no_search_reads_a_large_table_from_end_to_end() -> None:
    call_command("seed_portal", tickets=20_000, cis=500, rollouts=0, stdout=StringIO())
    desk, requester = User.objects.get(username="desk"), User.objects.get(username="requester")
    names = {
        "team": desk.teams.get().pk,
        "agent": User.objects.filter(username__startswith="agent").first().username,
        "person": User.objects.filter(username__startswith="person").first().username,
    }
    bad = []
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL random_page_cost = 1.1")  # as on disks without heads
    for person in (desk, requester):
        client = login(person)
        for address in ADDRESSES:
            with CaptureQueriesContext(connection) as queries:
                assert client.get(address.format(**names)).status_code == 200
            for query in queries:
                if not query["sql"].startswith("SELECT"):
                    continue
                with connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN (FORMAT JSON) {query['sql']}")
                    plan = cursor.fetchone()[0]
                plan = json.loads(plan) if isinstance(plan, str) else plan
                bad += [f"{person} {address}: {table}" for table in scanned(plan[0]["Plan"]) & BIG]
                if address in RARE and IN_ORDER.search(query["sql"]):
                    bad.append(f"{person} {address}: in order, from the newest on: {query['sql']}")
    assert bad == []
