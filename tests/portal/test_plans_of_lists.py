"""Lists and searches of a large portal are answered by indexes, and never look at every ticket."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from tests.portal.test_every_page import login

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

BIG = ("incidents_incident", "changes_change", "problems_problem", "cmdb_configurationitem", "incidents_incidententry")
ADDRESSES = (
    "/incidents/", "/incidents/?sort=priority", "/incidents/?sort=-updated_at", "/incidents/?sort=number",
    "/incidents/?scope=mine", "/incidents/?scope=requested", "/incidents/?scope=all", "/incidents/?state=new",
    "/incidents/?scope=all&sort=priority", "/incidents/?scope=all&sort=-updated_at", "/incidents/?state=on_hold",
    "/incidents/?state=closed",
    "/incidents/?scope=all&priority=1", "/incidents/?scope=all&q=E4711", "/incidents/?scope=all&q=certificate",
    "/incidents/?team={team}", "/incidents/?assignee={agent}", "/incidents/?scope=all&requester={person}",
    "/changes/", "/problems/", "/cis/", "/cis/?q=till", "/cis/?scope=mine", "/search/?q=certificate",
    "/search/?q=E4711",
)  # fmt: skip


def scanned(plan: dict) -> set[str]:
    """The tables that a plan reads from end to end."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned(part) for part in plan.get("Plans", ())))


def test_no_list_and_no_search_reads_a_large_table_from_end_to_end() -> None:
    call_command("seed_portal", tickets=20_000, cis=4_000, rollouts=0, stdout=StringIO())
    desk, requester = User.objects.get(username="desk"), User.objects.get(username="requester")
    names = {
        "team": desk.teams.get().pk,
        "agent": User.objects.filter(username__startswith="agent").first().username,
        "person": User.objects.filter(username__startswith="person").first().username,
    }
    bad = []
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
                bad += [f"{person} {address}: {table}" for table in scanned(plan[0]["Plan"]) & set(BIG)]
    assert bad == []
