"""The conformance list of the protocol; the number of its line is in each test's name."""

import re
from datetime import time
from time import strptime

import pytest

from cmdb.models import ConfigurationItem, MaintenanceWindow
from cmdb.services import issue_agent_token, revoke_agent_token
from distribution import device as device_services
from distribution import services
from distribution.channels.ddi.pace import sleep_time
from distribution.models import Batch, Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, state
from tests.factories import NOW, make_ci

pytestmark = pytest.mark.django_db


@pytest.fixture
def other(new: Version, batch: Batch) -> tuple[Device, Deployment]:
    """Another CI's device and its deployment."""
    (ci,) = make_fleet(1, new.product, "1.0", prefix="other")
    return Device(ci), queue(batch, [ci], new)[0]


def cancel(batch: Batch) -> None:
    services.cancel_open([batch.pk], now=NOW, reason="abort")


@pytest.mark.conformance(1, "An unknown id with a target token is 401")
def test_01_an_unknown_id_with_a_target_token_is_401(device: Device) -> None:
    device.base = "/DEFAULT/controller/v1/nobody"
    response = device.get()
    assert (response.status_code, response.content) == (401, b"")
    assert not ConfigurationItem.objects.filter(agent_id="nobody").exists()


@pytest.mark.conformance(2, "A wrong token is 401 with an empty body")
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "TargetToken wrong",
        "TargetToken ",
        "TargetToken",
        "GatewayToken {token}",
        "targettoken {token}",
        "TargetToken  {token}",
        "TargetToken {token} ",
        "Token {token}",
        "TargetToken " + "x" * 5000,
        "TargetToken \xff\x00",
    ],
)
def test_02_a_wrong_token_is_401_with_an_empty_body(device: Device, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.replace("{token}", device.token)}
    response = device.client.get(device.base, headers=headers)
    assert (response.status_code, response.content) == (401, b"")


@pytest.mark.conformance(2, "Two tokens are valid during a rotation and none after revoking")
def test_02_two_tokens_are_valid_during_a_rotation_and_none_after_revoking(
    device: Device, ci: ConfigurationItem
) -> None:
    newer = Device(ci, token=issue_agent_token(ci, actor=None, now=NOW))
    assert (device.get().status_code, newer.get().status_code) == (200, 200)
    newest = Device(ci, token=issue_agent_token(ci, actor=None, now=NOW))
    assert [d.get().status_code for d in (device, newer, newest)] == [401, 200, 200]
    for token in ci.agent_tokens.all():
        revoke_agent_token(token, actor=None, now=NOW)
    assert [d.get().status_code for d in (newer, newest)] == [401, 401]


@pytest.mark.conformance(2, "The token of another device is 401")
def test_02_the_token_of_another_device_is_401(device: Device, other: tuple[Device, Deployment]) -> None:
    device.token = other[0].token
    assert device.get().status_code == 401


@pytest.mark.conformance(3, "Polls with the ETag are 304 until something changes")
def test_03_polls_with_the_etag_are_304_until_something_changes(
    device: Device, ci: ConfigurationItem, new: Version
) -> None:
    first = device.get()
    assert device.get(**{"If-None-Match": first["ETag"]}).status_code == 304
    assert device.get(**{"If-None-Match": first["ETag"]}).content == b""
    queue(make_batch(), [ci], new)
    changed = device.get(**{"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert re.search(r"/deploymentBase/\d+\?c=\d+$", changed.json()["_links"]["deploymentBase"]["href"])


@pytest.mark.conformance(4, "POST, PUT, DELETE and others on the base are 405")
@pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "options", "head"])
def test_04_other_methods_on_the_base_are_405(device: Device, method: str) -> None:
    response = getattr(device.client, method)(device.base, headers=device.headers)
    assert response.status_code == 405
    assert response["Allow"] == "GET"


@pytest.mark.conformance(5, "Attributes are merged, replaced and removed")
def test_05_attributes_are_merged_replaced_and_removed(device: Device, ci: ConfigurationItem) -> None:
    def attributes() -> dict[str, str]:
        ci.refresh_from_db()
        return ci.attributes

    assert device.attributes({"a": "1", "b": "2"}, mode=None).status_code == 200
    device.attributes({"b": None, "c": "3"}, mode="merge")
    assert attributes() == {"a": "1", "c": "3"}
    device.attributes({"d": 4, "e": True, "f": 1.5}, mode="replace")
    assert attributes() == {"d": "4", "e": "true", "f": "1.5"}
    device.attributes({"d": "", "e": None}, mode="remove")
    assert attributes() == {"f": "1.5"}
    assert ci.attributes_wanted is False
    assert ci.attributes_at is not None


@pytest.mark.conformance(5, "Bad mode 400, no data 400, text 415, too many 429, stranger 401")
def test_05_what_is_wrong_about_attributes_is_refused(device: Device, ci: ConfigurationItem) -> None:
    assert device.attributes({"a": "1"}, mode="overwrite").status_code == 400
    assert device.send("PUT", "/configData", {"mode": "merge"}).status_code == 400
    assert device.send("PUT", "/configData", {"data": ["a"]}).status_code == 400
    assert device.attributes({"a": {"b": "c"}}).status_code == 400
    assert device.attributes({"a" * 129: "1"}).status_code == 400
    assert device.attributes({"a": "1" * 513}).status_code == 400
    assert device.attributes({"": "1"}).status_code == 400
    assert device.attributes({f"k{i}": "v" for i in range(101)}).status_code == 429
    assert device.attributes({f"k{i}": "v" for i in range(100)}).status_code == 200
    assert device.attributes({"one more": "v"}, mode="merge").status_code == 429
    assert device.send("PUT", "/configData", "data", content_type="text/plain").status_code == 415
    device.base = "/DEFAULT/controller/v1/nobody"
    assert device.attributes({"a": "1"}).status_code == 401


@pytest.mark.conformance(5, "A target that no longer exists under this name is unknown")
def test_05_a_target_that_no_longer_exists_under_this_name_is_unknown(device: Device) -> None:
    ConfigurationItem.objects.update(agent_id="renamed")
    assert device.attributes({"a": "1"}).status_code == 401


@pytest.mark.conformance(6, "Actions of another target are 404")
def test_06_actions_of_another_target_are_404(device: Device, other: tuple[Device, Deployment]) -> None:
    its_device, its = other
    for path in ("deploymentBase", "installedBase", "cancelAction"):
        assert device.get(f"/{path}/{its.pk}").status_code == 404
    its_device.fetch(its)
    assert device.report(its, "closed", "success").status_code == 404
    assert device.answer(its, "closed", "success").status_code == 404
    assert state(its) == "offered"


@pytest.mark.conformance(6, "Ids that are none are 404")
@pytest.mark.parametrize("number", ["0", "-1", "1x", "٣", "2147483648", "99999999999999999999", "%00", "1.0", "+1"])
def test_06_ids_that_are_none_are_404(device: Device, number: str) -> None:
    for path in ("deploymentBase/{}", "installedBase/{}", "cancelAction/{}", "softwaremodules/{}/artifacts/x.swu"):
        assert device.get("/" + path.format(number)).status_code == 404
    body = {"status": {"execution": "closed", "result": {"finished": "success"}}}
    assert device.send("POST", f"/deploymentBase/{number}/feedback", body).status_code == 404


@pytest.mark.conformance(7, "Feedback without what it needs is 400")
@pytest.mark.parametrize(
    "status",
    [
        None,
        "closed",
        {},
        {"execution": "closed"},
        {"execution": "closed", "result": None},
        {"execution": "closed", "result": {}},
        {"execution": "closed", "result": {"finished": None}},
        {"execution": "closed", "result": {"finished": "maybe"}},
        {"execution": "closed", "result": {"finished": ["success"]}},
        {"execution": "CLOSED", "result": {"finished": "success"}},
        {"execution": {"a": 1}, "result": {"finished": "success"}},
        {"result": {"finished": "success"}},
    ],
)
def test_07_feedback_without_what_it_needs_is_400(device: Device, deployment: Deployment, status: object) -> None:
    device.fetch(deployment)
    assert device.report(deployment, "closed", "success", status=status).status_code == 400
    assert state(deployment) == "offered"


@pytest.mark.conformance(8, "`closed` with `none` counts as success")
def test_08_closed_with_none_is_success(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    assert device.report(deployment, "closed", "none").status_code == 200
    assert state(deployment) == "confirming"


@pytest.mark.conformance(9, "A second close is 410")
@pytest.mark.parametrize("finished", ["success", "failure"])
def test_09_a_second_close_is_410(device: Device, deployment: Deployment, finished: str) -> None:
    device.fetch(deployment)
    assert device.report(deployment, "closed", finished).status_code == 200
    for again in ("success", "failure"):
        assert device.report(deployment, "closed", again).status_code == 410
    assert device.report(deployment, "proceeding").status_code == 410
    assert deployment.events.filter(kind="report").count() == 1


@pytest.mark.conformance(9, "What was never offered is unknown")
def test_09_what_was_never_offered_is_unknown(device: Device, deployment: Deployment) -> None:
    assert device.report(deployment, "closed", "success").status_code == 404
    assert state(deployment) == "queued"


@pytest.mark.conformance(10, "`canceled` and `rejected` leave the action open")
@pytest.mark.parametrize("execution", ["canceled", "rejected", "scheduled", "resumed"])
def test_10_canceled_and_rejected_leave_the_action_open(device: Device, deployment: Deployment, execution: str) -> None:
    device.fetch(deployment)
    assert device.report(deployment, execution, "success").status_code == 200
    assert state(deployment) == "offered"
    assert device.report(deployment, "closed", "success").status_code == 200


@pytest.mark.conformance(11, "A cancelled action is stopped by the device")
def test_11_a_cancelled_action_is_stopped_by_the_device(device: Device, deployment: Deployment, batch: Batch) -> None:
    device.fetch(deployment)
    device.report(deployment, "download")
    cancel(batch)
    links = device.links()
    assert "deploymentBase" not in links
    assert links["cancelAction"] == f"http://testserver{device.base}/cancelAction/{deployment.pk}"
    assert device.fetch(deployment).status_code == 404
    body = device.get(f"/cancelAction/{deployment.pk}").json()
    assert body == {"id": str(deployment.pk), "cancelAction": {"stopId": str(deployment.pk)}}

    assert device.answer(deployment, "canceled", "success").status_code == 200
    assert device.answer(deployment, "proceeding").status_code == 200
    assert state(deployment) == "cancelling"
    assert device.answer(deployment, "closed", "success").status_code == 200
    assert state(deployment) == "cancelled"
    assert "cancelAction" not in device.links()
    assert device.answer(deployment, "closed", "success").status_code == 410
    assert device.report(deployment, "closed", "success").status_code == 410
    assert device.get(f"/cancelAction/{deployment.pk}").status_code == 200


@pytest.mark.conformance(11, "A refused cancel goes back and can finish")
@pytest.mark.parametrize(("execution", "finished"), [("rejected", "success"), ("closed", "failure")])
def test_11_a_refused_cancel_goes_back_and_can_finish(
    device: Device, deployment: Deployment, batch: Batch, execution: str, finished: str
) -> None:
    device.fetch(deployment)
    device.report(deployment, "download")
    cancel(batch)
    assert device.report(deployment, "proceeding").status_code == 200, "one more while it is being cancelled"
    assert state(deployment) == "cancelling"
    assert device.answer(deployment, execution, finished).status_code == 200
    assert state(deployment) == "installing", "where it would be by now"
    assert device.report(deployment, "closed", "success").status_code == 200
    assert state(deployment) == "confirming"


@pytest.mark.conformance(11, "An action cancelled before the offer is never seen")
def test_11_an_action_cancelled_before_the_offer_is_never_seen(
    device: Device, deployment: Deployment, batch: Batch
) -> None:
    cancel(batch)
    assert {"deploymentBase", "cancelAction"}.isdisjoint(device.links())
    assert device.fetch(deployment).status_code == 404
    assert device.get(f"/cancelAction/{deployment.pk}").status_code == 404


@pytest.mark.conformance(12, "A cancel feedback on a running action is 405")
def test_12_a_cancel_feedback_on_a_running_action_is_405(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    assert device.get(f"/cancelAction/{deployment.pk}").status_code == 404
    assert device.answer(deployment, "closed", "success").status_code == 405
    device.report(deployment, "closed", "failure")
    assert device.answer(deployment, "closed", "success").status_code == 405
    assert state(deployment) == "failed"


@pytest.mark.conformance(13, "A close while cancelling wins")
@pytest.mark.parametrize(("finished", "expected"), [("success", "confirming"), ("failure", "failed")])
def test_13_a_close_while_cancelling_wins(
    device: Device, deployment: Deployment, batch: Batch, finished: str, expected: str
) -> None:
    device.fetch(deployment)
    cancel(batch)
    assert device.report(deployment, "closed", finished).status_code == 200
    assert state(deployment) == expected
    assert "cancelAction" not in device.links()
    assert device.answer(deployment, "closed", "success").status_code == 405


@pytest.mark.conformance(15, "Ids of any type and unknown members are accepted")
@pytest.mark.parametrize("identifier", [7, "7", "", None, {"odd": 1}])
def test_15_ids_of_any_type_and_unknown_members_are_accepted(
    device: Device, deployment: Deployment, identifier: object
) -> None:
    device.fetch(deployment)
    odd = {"id": identifier, "time": "20261122T191844", "unknown": [1, {"a": None}], "timestamp": "x"}
    assert device.report(deployment, "proceeding", "none", "fine", **odd).status_code == 200
    body = {
        "id": "",
        "time": "20261122T191844",
        "status": {"result": {"finished": "success"}, "execution": "closed", "details": [""]},
        "data": {"hw_revision": "2"},
    }
    assert device.send("PUT", "/configData", body).status_code == 200


@pytest.mark.conformance(16, "Feedback, attributes and answers to a cancel are answered with 200, never 204")
def test_16_answers_are_200(device: Device, deployment: Deployment, batch: Batch) -> None:
    device.fetch(deployment)
    answers = [
        device.report(deployment, "proceeding"),
        device.attributes({"a": "1"}),
        cancel(batch) or device.answer(deployment, "canceled"),
        device.report(deployment, "closed", "success"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200]


@pytest.mark.conformance(17, "Too many messages are 429 and the final one is taken")
def test_17_too_many_messages_are_429_and_the_final_one_is_taken(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    Deployment.objects.filter(pk=deployment.pk).update(reports=device_services.MAX_REPORTS - 1)
    assert device.report(deployment, "proceeding", "none", "the last one").status_code == 200
    assert device.report(deployment, "proceeding", "none", "too many").status_code == 429
    assert device.report(deployment, "closed", "success").status_code == 200
    assert deployment.events.filter(kind="report").count() == 2


@pytest.mark.conformance(17, "Too many details are 429 and cut in the final report")
def test_17_too_many_details_are_429_and_cut_in_the_final_report(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    lines = [f"line {i}" for i in range(60)]
    assert device.report(deployment, "proceeding", "none", *lines).status_code == 429
    assert device.report(deployment, "proceeding", "none", *lines[:50]).status_code == 200
    assert device.report(deployment, "closed", "failure", *lines, "x" * 9000).status_code == 200
    kept = deployment.events.filter(kind="report").latest("id").details
    assert (len(kept), kept[0], kept[-2], kept[-1]) == (50, "line 0", "line 59", "x" * 512)


@pytest.mark.conformance(19, "Sleep is always a time of day above zero")
@pytest.mark.parametrize("seconds", [1, 2, 59, 60, 300, 3600, 86_399, 86_400, 999_999])
def test_19_sleep_is_always_a_time_of_day_above_zero(settings, seconds: int) -> None:
    settings.DDI_POLL_SECONDS = seconds
    for name in ("ci-1", "ci-2", "x" * 128):
        for window in (None, MaintenanceWindow(weekdays="1", start=time(9, 0, 1), minutes=1)):
            ci = ConfigurationItem(agent_id=name, maintenance_window=window)
            ci.window = window
            sleep = sleep_time(ci, NOW)
            strptime(sleep, "%H:%M:%S")
            assert "00:00:01" <= sleep <= "23:59:59"
            assert sleep_time(ci, NOW) == sleep, "the same from poll to poll"


def test_an_unknown_tenant_is_404_and_the_case_of_the_known_one_does_not_matter(device: Device) -> None:
    device.base = device.base.replace("DEFAULT", "default")
    assert device.get().status_code == 200
    device.base = device.base.replace("default", "other")
    assert device.get().status_code == 404


def test_a_controller_id_that_is_too_long_is_400(device: Device) -> None:
    device.base = "/DEFAULT/controller/v1/" + "x" * 257
    assert device.get().status_code == 400


def test_an_accept_header_that_cannot_be_met_is_406(device: Device) -> None:
    assert device.get(Accept="text/html").status_code == 406
    for fine in ("*/*", "application/json;charset=UTF-8", "application/octet-stream", "text/html, */*;q=0.1"):
        assert device.get(Accept=fine).status_code == 200


def test_the_history_of_an_action_is_shown_newest_first(device: Device, deployment: Deployment) -> None:
    device.fetch(deployment)
    for line in ("one", "two", "three"):
        device.report(deployment, "proceeding", "none", line)

    def messages(query: str) -> object:
        return device.get(f"/deploymentBase/{deployment.pk}{query}").json().get("actionHistory", {}).get("messages")

    assert messages("") is None
    assert messages("?actionHistory=0") is None
    assert messages("?actionHistory=2") == ["three", "two"]
    assert messages("?c=5&actionHistory=-1") == ["three", "two", "one"]
    assert messages("?actionHistory=x") is None


def test_a_ci_without_an_agent_is_no_device() -> None:
    ci = make_ci("mute")
    device = Device(ci, token="x")
    assert device.get().status_code == 401
