"""Pages and API agree on what somebody sees who may not see everything."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from releases import services
from tests.factories import make_user
from tests.releases.world import BIG_BANG, World


@pytest.fixture
def client_of() -> Any:
    def make(user: Any) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return make


def test_an_owner_takes_his_own_ci_out_of_a_rollout_and_sees_no_others(world: World, client_of: Any) -> None:
    owner = make_user("otto", "CI owner")
    mine, other = world.add_ci("mine", owner=owner), world.add_ci("secret-till")
    rollout = world.started(policy={**BIG_BANG, "max_in_flight": 1})
    world.tick()
    page = f"/rollouts/{rollout.number}/"
    client = client_of(owner)
    shown = client.get(page).content.decode()
    assert "mine" in shown
    assert "secret-till" not in shown
    body = {"ci": other.name, "reason": "not mine"}
    assert client.post(f"{page}exclude_ci/", body).status_code >= 400
    assert client.post(f"{page}exclude_ci/", {"ci": mine.name, "reason": "Sale"}).status_code == 302
    states = {d.ci.name: d.state for d in rollout.waves.get().batch.deployments.select_related("ci")}
    assert states == {"mine": "excluded", "secret-till": "queued"}
    api = APIClient()
    api.force_authenticate(owner)
    assert {e["text"] for e in api.get(f"/api/v1{page}events/").json()["results"]} == {""}
    assert client_of(make_user("uma", "requester")).get(page).status_code == 404


def test_a_requester_reads_nothing_of_other_peoples_cis_in_the_release(world: World, client_of: Any) -> None:
    uma = make_user("uma", "requester")
    mine, other = world.add_ci("mine", owner=uma), world.add_ci("secret-till")
    change = world.change(incidents=[world.incident(mine, requester=uma)])
    hidden = world.change()
    release = world.ready(changes=[change, hidden])
    services.record_exception(
        release, kind="no_way_back", ci=other, actor=world.mona, now=world.now, reason="secret-till is old"
    )
    api = APIClient()
    api.force_authenticate(uma)
    answer = api.get(f"/api/v1/releases/{release.number}/").json()
    assert [one["kind"] for one in answer["exceptions"]] == ["test_skipped"]
    page = client_of(uma).get(f"/releases/{release.number}/?tab=package").content.decode()
    assert change.number in page
    assert hidden.number not in page


def _asked(home: Any) -> str:
    """The panel of the home page with what waits for the person's approval."""
    text = home.get("/").content.decode()
    assert 'id="home-approvals"' in text
    return str(text.partition('id="home-approvals"')[2].partition("</section>")[0])


def test_a_release_asks_again_on_the_home_page_when_its_approval_no_longer_fits(world: World, client_of: Any) -> None:
    world.add_cis(2)
    release = world.approved(release_type="emergency")
    eva = make_user("eva", "emergency approver")
    homes = [client_of(user) for user in (world.mona, eva)]
    assert [release.number in _asked(home) for home in homes] == [False, False]
    services.edit_release(release, actor=world.erik, now=world.now, policy=BIG_BANG)
    assert [release.number in _asked(home) for home in homes] == [True, True]


@pytest.mark.parametrize(
    "address",
    [
        "/search/?q=a%00b", "/cis/options/?field=ci&ci=a%00b", "/changes/new/?products=a%00b",
        "/software/billing/versions/a%00b/upload/", "/incidents/new/?ci=a%00b", "/incidents/?q=a%00b",
        "/incidents/a%00b/", "/incidents/?page=99999999999999999999", "/incidents/INC-999999999999999999/",
    ],
)  # fmt: skip
def test_no_address_breaks_a_page(world: World, client_of: Any, address: str) -> None:
    admin = make_user("root", is_superuser=True)
    assert client_of(admin).get(address).status_code < 500
