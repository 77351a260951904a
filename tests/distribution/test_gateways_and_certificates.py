"""Gateways, certificates, and devices that nobody registered: what they may do, and what an attacker may not."""

from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from cmdb import admission
from cmdb.models import CIClass, CIGroup, ConfigurationItem, GatewayToken, Registration, TrustedAuthority
from cmdb.services import record_installed
from distribution.models import Deployment
from itsm_portal import environment
from software.models import Version
from tests.distribution.device_client import CLIENT, Device
from tests.distribution.fleet import make_batch, make_fleet, queue, state
from tests.factories import NOW, make_user
from tickets.exceptions import InvalidInput, PermissionRefused, TransitionRefused

pytestmark = pytest.mark.django_db


class Door:
    """Speaks as a gateway or behind a proxy, for any device."""

    def __init__(self, **headers: str) -> None:
        self.headers = headers

    def ask(self, agent_id: str, path: str = "", method: str = "GET", body: str = "", **more: Any) -> Any:
        return CLIENT.generic(
            method, f"/DEFAULT/controller/v1/{agent_id}{path}", body, content_type="application/json",
            headers=self.headers, **more,
        )  # fmt: skip

    def status(self, agent_id: str, **more: Any) -> int:
        return self.ask(agent_id, **more).status_code


@pytest.fixture
def ways(settings) -> None:
    """Every way to prove who one is, with the test client's address as that of the proxy."""
    settings.DDI_AUTHENTICATION = ["target_token", "gateway_token", "certificate"]
    settings.DDI_CERTIFICATE_PROXIES = ["127.0.0.1"]


@pytest.fixture
def group(db: None) -> CIGroup:
    return CIGroup.objects.create(name="plant")


@pytest.fixture
def gateway(ways: None, group: CIGroup) -> Door:
    kind = CIClass.objects.create(name="Till", slug="till")
    secret = admission.issue_gateway_token(actor=None, now=NOW, name="plant 1", group=group, ci_class=kind)
    return Door(Authorization=f"GatewayToken {secret}")


@pytest.fixture
def authority(ways: None) -> TrustedAuthority:
    kind = CIClass.objects.get_or_create(slug="server", defaults={"name": "Server"})[0]
    return TrustedAuthority.objects.create(name="plant CA", identifier="3A:F0 ", ci_class=kind)


def certified(name: str, issuer: str = "3a:f0") -> Door:
    return Door(**{"X-Controller-Id": name, "X-Authority": issuer})


def waiting(agent_id: str) -> Registration:
    return Registration.objects.get(agent_id=agent_id)


@pytest.mark.conformance(1, "The first poll of a new device with a gateway token puts it among those that wait")
def test_01_the_first_poll_with_a_gateway_token_lets_a_new_device_wait(gateway: Door) -> None:
    answer = gateway.ask("till-7")
    assert answer.status_code == 200
    assert set(answer.json()["_links"]) == {"configData"}
    found = waiting("till-7")
    assert (found.state, found.admitted_by.name, found.address) == ("waiting", "plant 1", "127.0.0.1")
    assert gateway.status("till-7") == 200
    assert Registration.objects.count() == 1
    assert not ConfigurationItem.objects.filter(agent_id="till-7").exists(), "nothing can be planned for it"


def test_a_waiting_device_says_who_it_is_and_gets_nothing_else(gateway: Door) -> None:
    gateway.ask("till-7")
    body = '{"mode": "merge", "data": {"serial": "8922", "model": "T1", "gone": null}}'
    assert gateway.ask("till-7", "/configData", "PUT", body).status_code == 200
    assert waiting("till-7").attributes == {"serial": "8922", "model": "T1"}
    assert gateway.ask("till-7").json()["_links"] == {}
    for method, path in (
        ("GET", "/deploymentBase/1"), ("POST", "/deploymentBase/1/feedback"), ("GET", "/cancelAction/1"),
        ("POST", "/cancelAction/1/feedback"), ("GET", "/installedBase/1"), ("PUT", "/installedBase"),
        ("GET", "/softwaremodules/1/artifacts"), ("GET", "/softwaremodules/1/artifacts/x.swu"),
    ):  # fmt: skip
        assert gateway.ask("till-7", path, method).status_code == 404, path
    many = ", ".join(f'"k{n}": "v"' for n in range(101))
    assert gateway.ask("till-7", "/configData", "PUT", f'{{"data": {{{many}}}}}').status_code == 429


def test_an_approved_device_is_a_ci_of_the_gateways_group_and_gets_its_deployment(
    gateway: Door, group: CIGroup, new: Version
) -> None:
    gateway.ask("till-7")
    ci = admission.approve_registration(waiting("till-7"), actor=None, now=NOW)
    assert (ci.name, ci.agent_id, ci.ci_class.slug, ci.lifecycle) == ("till-7", "till-7", "till", "in_operation")
    assert group.contains(ci)
    assert waiting("till-7").ci == ci
    (deployment,) = queue_fresh(ci, new)
    assert "deploymentBase" in gateway.ask("till-7").json()["_links"]
    assert gateway.ask("till-7", f"/deploymentBase/{deployment.pk}").status_code == 200
    with pytest.raises(TransitionRefused, match="does not wait any more"):
        admission.approve_registration(waiting("till-7"), actor=None, now=NOW)


def queue_fresh(ci: ConfigurationItem, new: Version) -> list[Deployment]:
    record_installed(ci, product=new.product, label="1.0", now=NOW)
    return queue(make_batch(), [ci], new)


def test_a_rejected_device_is_a_stranger_until_that_is_taken_back(gateway: Door) -> None:
    gateway.ask("till-7")
    admission.reject_registration(waiting("till-7"), actor=None, now=NOW, reason="not ours")
    assert gateway.status("till-7") == 401
    assert waiting("till-7").reason == "not ours"
    admission.reopen_registration(waiting("till-7"), actor=None, now=NOW)
    assert gateway.status("till-7") == 200
    with pytest.raises(TransitionRefused):
        admission.reopen_registration(waiting("till-7"), actor=None, now=NOW)


def test_a_gateway_speaks_for_its_group_and_for_nobody_else(
    gateway: Door, group: CIGroup, ci: ConfigurationItem
) -> None:
    assert gateway.status("ci-1") == 401, "known, and not of the group"
    assert not Registration.objects.exists()
    group.static_members.add(ci)
    assert gateway.status("ci-1") == 200
    group.static_members.remove(ci)
    assert gateway.status("ci-1") == 401


def test_a_gateway_does_not_touch_what_another_one_brought(gateway: Door, group: CIGroup) -> None:
    gateway.ask("till-7")
    secret = admission.issue_gateway_token(actor=None, now=NOW, name="plant 2", group=group)
    other = Door(Authorization=f"GatewayToken {secret}")
    assert other.status("till-7") == 401
    assert other.ask("till-7", "/configData", "PUT", '{"data": {"serial": "evil"}}').status_code == 401
    assert waiting("till-7").attributes == {}


def test_a_gateway_token_that_ended_or_may_not_register(gateway: Door) -> None:
    gateway.ask("till-7")
    GatewayToken.objects.update(may_register=False)
    assert (gateway.status("till-8"), gateway.status("till-7")) == (401, 200)
    token = GatewayToken.objects.get()
    assert admission.revoke_gateway_token(token, actor=None, now=NOW)
    assert not admission.revoke_gateway_token(token, actor=None, now=NOW)
    assert gateway.status("till-7") == 401


def test_a_gateway_cannot_flood_the_queue(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_WAITING", 3)
    assert [gateway.status(f"till-{n}") for n in range(5)] == [200, 200, 200, 429, 429]
    assert gateway.status("till-1") == 200, "those that wait already are served"
    admission.reject_registration(waiting("till-1"), actor=None, now=NOW)
    assert gateway.status("till-9") == 200


@pytest.mark.parametrize(
    "agent_id", ["-x", "%20", "a%20b", "%00", "a%0A", "x" * 129, "%E2%80%AE", "..", "a%2Fb", "<b>"]
)
def test_an_id_that_is_none_is_not_registered(gateway: Door, agent_id: str) -> None:
    assert gateway.status(agent_id) in {400, 401, 404}
    assert not Registration.objects.exists()


@pytest.mark.parametrize(
    "authorization", ["GatewayToken wrong", "GatewayToken", "gatewaytoken {t}", "GatewayToken  {t}", "TargetToken {t}"]
)
def test_a_gateway_token_is_taken_to_the_letter(gateway: Door, authorization: str) -> None:
    token = gateway.headers["Authorization"].removeprefix("GatewayToken ")
    assert Door(Authorization=authorization.replace("{t}", token)).status("till-7") == 401
    assert not Registration.objects.exists()


def test_ways_that_are_switched_off_do_not_exist(
    gateway: Door, authority: TrustedAuthority, device: Device, settings
) -> None:
    settings.DDI_AUTHENTICATION = ["target_token"]
    assert (gateway.status("till-7"), certified("till-7").status("till-7")) == (401, 401)
    assert device.get().status_code == 200
    settings.DDI_AUTHENTICATION = ["certificate"]
    answer = device.get()
    assert (answer.status_code, answer.content, answer.headers.get("WWW-Authenticate")) == (401, b"", None)
    assert certified(str(device.ci.agent_id)).status(str(device.ci.agent_id)) == 200


def test_only_target_tokens_are_taken_unless_told_otherwise(settings) -> None:
    assert settings.DDI_AUTHENTICATION == ["target_token"]
    assert settings.DDI_CERTIFICATE_PROXIES == []


def test_a_certificate_opens_for_its_own_name_only(
    authority: TrustedAuthority, ci: ConfigurationItem, new: Version
) -> None:
    assert certified("ci-1").status("ci-1") == 200
    (deployment,) = queue(make_batch(), [ci], new)
    assert certified("ci-1").ask("ci-1", f"/deploymentBase/{deployment.pk}").status_code == 200
    for name in ("ci-2", "CI-1", "ci-1 ", "", "ci-1,ci-2"):
        assert certified(name).status("ci-1") == 401, name


@pytest.mark.parametrize(
    ("issuer", "status"),
    [("3A:F0", 200), ("other, 3a:f0", 200), ("other;3a:f0", 200), ("3a:f", 401), ("", 401), ("3a:f0x", 401),
     ("*", 401), ("\x00", 401), (",".join(f"x{n}" for n in range(500)), 401)],
)  # fmt: skip
def test_the_issuer_is_one_of_the_list(
    authority: TrustedAuthority, ci: ConfigurationItem, issuer: str, status: int
) -> None:
    assert certified("ci-1", issuer).status("ci-1") == status


@pytest.mark.parametrize("address", ["10.0.0.9", "127.0.0.2", "::1", "", "unix", "127.0.0.1, 10.0.0.9"])
def test_certificate_headers_count_only_from_the_proxy(
    authority: TrustedAuthority, ci: ConfigurationItem, address: str
) -> None:
    assert certified("ci-1").status("ci-1", REMOTE_ADDR=address) == 401
    forged = Door(**certified("ci-1").headers, **{"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1"})
    assert forged.status("ci-1", REMOTE_ADDR=address) == 401


def test_networks_and_sockets_of_proxies(authority: TrustedAuthority, ci: ConfigurationItem, settings) -> None:
    settings.DDI_CERTIFICATE_PROXIES = ["10.1.0.0/16", "fd00::/8", "unix"]
    found = {a: certified("ci-1").status("ci-1", REMOTE_ADDR=a) for a in ("10.1.9.9", "10.2.0.1", "fd00::1", "", "x")}
    assert found == {"10.1.9.9": 200, "10.2.0.1": 401, "fd00::1": 200, "": 200, "x": 401}


def test_only_the_headers_that_are_named_count(authority: TrustedAuthority, ci: ConfigurationItem, settings) -> None:
    numbered = Door(**{"X-Controller-Id": "ci-1", "X-Authority": "evil", "X-Authority-0": "3a:f0"})
    assert numbered.status("ci-1") == 401, "the proxy sets X-Authority; whoever adds another one gains nothing"
    settings.DDI_CERTIFICATE_AUTHORITY_HEADERS = ["X-Authority-0", "X-Authority-1"]
    assert numbered.status("ci-1") == 200
    settings.DDI_CERTIFICATE_NAME_HEADER = "X-Ssl-Client-Cn"
    assert numbered.status("ci-1") == 401
    assert Door(**{"X-Ssl-Client-Cn": "ci-1", "X-Authority-1": "3a:f0"}).status("ci-1") == 200


def test_a_certificate_lets_a_new_device_wait_and_approval_makes_it_a_ci(authority: TrustedAuthority) -> None:
    assert certified("box-1").status("box-1") == 200
    ci = admission.approve_registration(waiting("box-1"), actor=None, now=NOW, name="Box 1")
    assert (ci.name, ci.ci_class.slug) == ("Box 1", "server")
    assert certified("box-1").status("box-1") == 200
    TrustedAuthority.objects.filter(pk=authority.pk).update(identifier="gone")
    assert certified("box-1").status("box-1") == 401


def test_a_gateway_does_not_take_over_what_a_certificate_brought(gateway: Door, authority: TrustedAuthority) -> None:
    certified("box-1").status("box-1")
    assert gateway.status("box-1") == 401
    gateway.status("till-7")
    assert certified("till-7").status("till-7") == 401


def test_a_target_token_still_counts_where_the_certificate_does_not(
    authority: TrustedAuthority, device: Device
) -> None:
    both = Door(**device.headers, **{"X-Controller-Id": "ci-1", "X-Authority": "unknown"})
    assert both.status("ci-1") == 200
    wrong = Door(**{"Authorization": "TargetToken wrong", "X-Controller-Id": "ci-1", "X-Authority": "3a:f0"})
    assert wrong.status("ci-1") == 200, "any one suffices"


def test_who_may_decide(gateway: Door) -> None:
    gateway.ask("till-7")
    nobody, adam = make_user("nobody", "service desk"), make_user("adam", "administrator")
    for verb in (admission.approve_registration, admission.reject_registration, admission.reopen_registration):
        with pytest.raises(PermissionRefused):
            verb(waiting("till-7"), actor=nobody, now=NOW)
    with pytest.raises(PermissionRefused):
        admission.issue_gateway_token(actor=nobody, now=NOW, name="x", group=CIGroup.objects.get())
    assert not Registration.objects.visible_to(nobody).exists()
    assert Registration.objects.visible_to(adam).count() == 1
    admission.approve_registration(waiting("till-7"), actor=adam, now=NOW)
    assert waiting("till-7").decided_by == adam


def test_approval_refuses_what_registering_refuses(gateway: Door, ci: ConfigurationItem) -> None:
    gateway.ask("till-7")
    GatewayToken.objects.update(ci_class=None)
    with pytest.raises(InvalidInput, match="which class"):
        admission.approve_registration(waiting("till-7"), actor=None, now=NOW)
    with pytest.raises(InvalidInput, match="this name"):
        admission.approve_registration(waiting("till-7"), actor=None, now=NOW, name=ci.name, ci_class=ci.ci_class)
    ConfigurationItem.objects.filter(pk=ci.pk).update(agent_id="till-7")
    with pytest.raises(InvalidInput, match="this id"):
        admission.approve_registration(waiting("till-7"), actor=None, now=NOW, ci_class=ci.ci_class)
    assert waiting("till-7").state == "waiting"
    assert gateway.status("till-7") == 401, "by now it is a CI outside the group"


def test_a_target_token_is_checked_in_the_one_query_of_a_poll(
    device: Device, ways: None, django_assert_num_queries
) -> None:
    device.get()
    with django_assert_num_queries(1):
        assert device.get().status_code == 200


def test_a_gateway_can_deliver_for_many(gateway: Door, group: CIGroup, new: Version) -> None:
    cis = make_fleet(3, new.product, "1.0", prefix="till")
    group.static_members.set(cis)
    for ci, deployment in zip(cis, queue(make_batch(), cis, new), strict=True):
        assert gateway.ask(str(ci.agent_id), f"/deploymentBase/{deployment.pk}").status_code == 200
        assert state(deployment) == "offered"
    other = cis[0].deployments.get()
    assert gateway.ask(str(cis[1].agent_id), f"/deploymentBase/{other.pk}").status_code == 404


@pytest.mark.parametrize(
    ("name", "value"),
    [("DDI_AUTHENTICATION", "target"), ("DDI_CERTIFICATE_PROXIES", "proxy.example.org"),
     ("DDI_CERTIFICATE_PROXIES", "10.0.0.1/8"), ("DDI_CERTIFICATE_PROXIES", "*")],
)  # fmt: skip
def test_wrong_settings_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    is_way = name == "DDI_AUTHENTICATION"
    read = partial(environment.choices, allowed=("target_token",), default="") if is_way else environment.networks
    with pytest.raises(ImproperlyConfigured, match=name):
        read(name)


def test_a_device_that_another_gateway_brings_in_the_same_moment_is_the_other_ones(
    gateway: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = GatewayToken.objects.get()
    other = GatewayToken.objects.create(name="other", group=plant.group, sha256="1" * 64, created_at=NOW)

    def overtaken(agent_id: str) -> None:
        admission.let_wait(agent_id, source=other, address="", now=NOW)

    with monkeypatch.context() as moment:
        moment.setattr(admission, "_check_agent_id", lambda agent_id: moment.undo() or overtaken(agent_id))
        assert admission.let_wait("till-9", source=plant, address="", now=NOW) is None
    assert Registration.objects.get().gateway_token == other
