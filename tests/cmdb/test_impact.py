"""What an outage of a CI hurts, and what hurts it: as far as somebody may see, bounded, and for a constant cost."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cmdb import impact
from cmdb.impact import dependents_of, graph_of, services_above
from cmdb.models import Relation
from tests.factories import make_ci, make_user

pytestmark = pytest.mark.django_db


def relate(*pairs) -> None:
    Relation.objects.bulk_create(Relation(source=source, target=target) for source, target in pairs)


def depths(graph) -> dict[str, int]:
    return {node.ci.name: node.depth for node in graph.nodes}


def test_what_depends_on_a_ci_is_above_and_what_it_depends_on_below() -> None:
    shop, web, app, database, disk = [make_ci(name) for name in ("shop", "web", "app", "database", "disk")]
    relate((shop, web), (web, app), (app, database), (database, disk))
    manager = make_user("mara", "release manager")
    assert depths(graph_of(app, manager)) == {"web": -1, "shop": -2, "database": 1, "disk": 2}
    assert depths(graph_of(app, manager, up=1, down=0)) == {"web": -1}
    assert [(edge.source, edge.target) for edge in graph_of(app, manager, up=1, down=0).edges] == [(web.pk, app.pk)]


def test_a_ci_in_a_circle_is_drawn_once_where_it_is_nearer() -> None:
    one, two, three = [make_ci(name) for name in ("one", "two", "three")]
    relate((one, two), (two, three), (three, one))
    graph = graph_of(one, make_user("mara", "release manager"), up=6, down=6)
    assert depths(graph) == {"two": 1, "three": -1}
    assert len(graph.edges) == 3
    assert graph.more == 0


def test_the_walk_ends_at_what_somebody_may_not_see() -> None:
    uma = make_user("uma", "requester")
    mine, foreign, behind = make_ci("mine", owner=uma), make_ci("foreign"), make_ci("behind", owner=uma)
    relate((mine, foreign), (foreign, behind))
    assert depths(graph_of(mine, uma)) == {}
    client = Client()
    client.force_login(uma)
    for address in (f"/cis/{mine.number}/impact/", f"/api/v1/cis/{mine.number}/impact/"):
        text = client.get(address).content.decode()
        assert "foreign" not in text
        assert "behind" not in text
    assert client.get(f"/cis/{foreign.number}/impact/").status_code == 404
    assert client.get(f"/api/v1/cis/{foreign.number}/impact/").status_code == 404


def test_what_is_beyond_the_limit_is_told_as_a_number(monkeypatch) -> None:
    switch = make_ci("switch")
    relate(*((make_ci(f"host-{n}"), switch) for n in range(8)))
    manager = make_user("mara", "release manager")
    graph = graph_of(switch, manager, limit=5)
    assert (len(graph.nodes), graph.more, graph.is_counted) == (5, 3, True)
    monkeypatch.setattr(impact, "_MAX_STEPS", 7)
    graph = graph_of(switch, manager, limit=5)
    assert (len(graph.nodes), graph.more, graph.is_counted) == (5, 1, False)
    client = Client()
    client.force_login(manager)
    assert "More than 0 more" not in client.get(f"/cis/{switch.number}/impact/?limit=100").content.decode()


def test_the_graph_costs_the_same_number_of_queries_at_any_size() -> None:
    app, manager = make_ci("app"), make_user("mara", "release manager")
    client = Client()
    client.force_login(manager)
    client.get("/")  # the first request of a session reads more
    counts = []
    for size in (2, 12):
        relate(*((make_ci(f"above-{size}-{n}"), app) for n in range(size)))
        for address in (f"/api/v1/cis/{app.number}/impact/", f"/cis/{app.number}/impact/"):
            with CaptureQueriesContext(connection) as queries:
                assert client.get(address).status_code == 200
            counts.append(len(queries))
    assert counts[:2] == counts[2:]
    assert max(counts) <= 12


def test_the_api_tells_the_middle_first_and_refuses_a_depth_without_end() -> None:
    web, app = make_ci("web"), make_ci("app")
    relate((web, app))
    client = Client()
    client.force_login(make_user("mara", "release manager"))
    answer = client.get(f"/api/v1/cis/{app.number}/impact/").json()
    assert [(node["name"], node["depth"]) for node in answer["nodes"]] == [("app", 0), ("web", -1)]
    assert answer["nodes"][1]["page"] == f"/cis/{web.number}/"
    assert answer["edges"] == [{"source": web.pk, "target": app.pk, "kind": "depends_on"}]
    assert client.get(f"/api/v1/cis/{app.number}/impact/?up=7").status_code == 400
    # The page takes what it can.
    assert client.get(f"/cis/{app.number}/impact/?up=7").status_code == 200


def test_dependents_and_services_are_found_by_the_same_walk() -> None:
    shop, web, database, other = [make_ci(name) for name in ("shop", "web", "database", "other")]
    relate((shop, web), (web, database))
    assert dependents_of([database.pk]) == [web.pk, shop.pk]
    assert dependents_of([database.pk, web.pk]) == [shop.pk]
    assert dependents_of([database.pk], depth=1) == [web.pk]
    assert sorted(services_above([database.pk, other.pk])) == [(shop.pk, database.pk), (web.pk, database.pk)]
