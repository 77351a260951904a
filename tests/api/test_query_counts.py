"""Reading costs the same number of queries, however much there is to read."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tests.api.world import make_objects, routes
from tests.factories import make_user

pytestmark = pytest.mark.django_db
# Dry runs and previews are held to a number by their own tests; a failure is asked about one CI.
ELSEWHERE = (
    "releases/<str:number>/plan/",
    "releases/<str:number>/preview/",
    "rollouts/<str:number>/preview/",
    "rollouts/<str:number>/failure/",
)
READS = sorted(
    path for method, path in routes() if method == "GET" and "download" not in path and path not in ELSEWHERE
)
# Beyond this many something is read row by row or twice.
MOST = 30


def path_for(path: str, keys: dict[str, int]) -> str:
    first = path.split("/", 1)[0]
    number = f"inc{keys['incidents']}" if first == "chain" else str(keys.get(first))
    key = str(keys.get("/".join(path.split("/")[0:3:2])))
    return "/api/v1/" + path.replace("<str:number>", number).replace("<int:key>", key)


def queries(client: APIClient, path: str) -> int:
    with CaptureQueriesContext(connection) as found:
        answer = client.get(path)
    assert answer.status_code == 200, (path, answer.content)
    return len(found)


def measured(name: str, links: int, reader: str) -> dict[str, int]:
    owner = make_user(f"owner-{name}")
    objects = make_objects(name, owner, make_user(f"author-{name}"), links=links)
    user = owner if reader == "owner" else make_user(f"boss-{name}", is_superuser=True)
    objects.give_to(user)
    client = APIClient()
    client.force_authenticate(user)
    client.get("/api/v1/me/")  # rights are read once for each person
    return {path: queries(client, path_for(path, objects.keys)) for path in READS if readable(path, reader)}


def readable(path: str, reader: str) -> bool:
    """What only staff may see is left out for owners."""
    for_staff = (
        "cis/<str:number>/tokens/", "environments/<str:number>/", "images/<str:number>/", "disks/<str:number>/",
        "ci-groups/<str:number>/", "connections/<str:number>/", "deployments/<str:number>/push-log/",
        "standard-changes/<str:number>/", "service-tokens/<str:number>/", "gateway-tokens/<str:number>/",
        "registrations/<str:number>/", "reports/",
    )  # fmt: skip
    return reader != "owner" or not path.startswith(for_staff)


@pytest.mark.parametrize("reader", ["superuser", "owner"])
def test_reading_costs_the_same_for_one_and_for_many(reader):
    few = measured("few", 1, reader)
    many = measured("many", 5, reader)
    assert many == few
    assert max(few.values()) <= MOST, {path: number for path, number in few.items() if number > MOST}
