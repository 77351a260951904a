"""What a device sends is data: it is taken, cleaned or refused, and never breaks the portal."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from distribution.channels.ddi import messages
from distribution.device import MAX_DETAILS
from distribution.models import Deployment
from tests.distribution.device_client import Device
from tests.distribution.fleet import state

pytestmark = pytest.mark.django_db

BODIES = {
    "nothing": b"",
    "a list": b"[]",
    "a number": b"1",
    "half": b'{"status": ',
    "no utf-8": b'{"data": {"a": "\xff\xfe"}}',
    "deep": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number of 5000 digits": b'{"data": {"a": ' + b"9" * 5000 + b"}}",
    "a number of 4000 digits": b'{"data": {"a": ' + b"9" * 4000 + b"}}",
    "another type in place of data": b'{"data": "text"}',
    "another type in place of status": b'{"status": [1]}',
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_none_are_400(device: Device, deployment: Deployment, name: str) -> None:
    device.fetch(deployment)
    assert device.send("PUT", "/configData", BODIES[name]).status_code == 400
    assert device.send("POST", f"/deploymentBase/{deployment.pk}/feedback", BODIES[name]).status_code == 400
    assert device.send("POST", f"/cancelAction/{deployment.pk}/feedback", BODIES[name]).status_code == 400


def test_a_body_that_is_too_large_is_413(device: Device, deployment: Deployment) -> None:
    body = b'{"data": {"a": "' + b"x" * 300_000 + b'"}}'
    assert device.send("PUT", "/configData", body).status_code == 413


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b'"The \x1b[31mtill\x1b[0m\tis broken"', ["The \x1b[31mtill\x1b[0m\tis broken"]),
        (b'"caf\xe9"', ["caf\ufffd"]),
        (b'"no "till" in C:\\till","give up]"', ['no "till" in C:\\till', "give up]"]),
        (b'"""', ['"']),
    ],
)
def test_details_that_swupdate_did_not_escape_are_taken(
    device: Device, deployment: Deployment, said: bytes, kept: list[str]
) -> None:
    """The body is put together as SWUpdate does it; refusing it would make a device install for ever."""
    device.fetch(deployment)
    body = (
        b'{ "id": 1, "time": "20261123T011510", "status": { "result": { "progress": { "cnt" : 0, "of" : 1 },'
        b' "finished": "failure" }, "execution": "closed", "details" : [ ' + said + b" ] } }"
    )
    assert device.send("POST", f"/deploymentBase/{deployment.pk}/feedback", body).status_code == 200
    assert state(deployment) == "failed"
    assert deployment.events.get(kind="report").details == kept


def test_what_a_database_cannot_keep_is_cleaned(device: Device, deployment: Deployment) -> None:
    raw = (
        '{"data": {"nul\\u0000key": "a\\u0000b", "half": "\\ud800", "nan": NaN, "inf": 1e999,'
        ' "version.billing": "\\u0000"}}'
    )
    assert device.send("PUT", "/configData", raw).status_code == 200
    device.ci.refresh_from_db()
    assert device.ci.attributes["nulkey"] == "ab"
    assert device.ci.attributes["half"] == "?"
    device.fetch(deployment)
    details = ["a\x00b\x00", "\ud800", None, 7, {"x": ["y"]}, "z" * 100_000]
    assert device.report(deployment, "proceeding", "none", *details).status_code == 200
    assert deployment.events.latest("id").details == ["ab", "?", "", "7", '{"x": ["y"]}', "z" * 512]
    assert device.report(deployment, "closed", "failure", "disk_full: \x00 no room\x00").status_code == 200
    deployment.refresh_from_db()
    assert (deployment.error_code, deployment.message) == ("disk_full", " no room")


@pytest.mark.parametrize(
    "code", ["Disk: full", "x" * 65 + ": long", ": empty", "no colon", "disk-full: dash", "ünï: x"]
)
def test_what_only_looks_like_a_code_is_a_message(device: Device, deployment: Deployment, code: str) -> None:
    device.fetch(deployment)
    device.report(deployment, "closed", "failure", code)
    deployment.refresh_from_db()
    assert (deployment.error_code, deployment.message) == ("", code)


def test_labels_that_are_none_change_nothing(device: Device, deployment: Deployment) -> None:
    for label in ("", "x" * 65, "../../etc"):
        assert device.attributes({"version.billing": label, "version.": "1", "version.nobody": "1"}).status_code == 200
    device.ci.refresh_from_db()
    labels = list(device.ci.installed_versions.order_by("id").values_list("label", flat=True))
    assert labels == ["1.0", "../../etc"], "a text, whatever it says"


def test_an_attribute_needs_a_name_of_which_something_is_left(device: Device) -> None:
    for body in ('{"data": {"": "1"}}', '{"data": {"\\u0000": "1"}}', json.dumps({"data": {"x" * 129: "1"}})):
        assert device.send("PUT", "/configData", body).status_code == 400


@pytest.mark.parametrize(
    "condition",
    [
        "Mon, 01 Jan 2024 00:00:00 +9999999999999999",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 99 Foo 99999 99:99:99 GMT",
        '"',
        "W/",
        "\x00",
    ],
)
def test_a_condition_that_is_no_date_means_the_whole_file(
    device: Device, deployment: Deployment, condition: str
) -> None:
    device.fetch(deployment)
    path = f"/softwaremodules/{deployment.items.get().to_version_id}/artifacts/billing-2.0.tar.gz"
    assert device.get(path, Range="bytes=0-9", **{"If-Range": condition}).status_code == 200


@pytest.mark.parametrize("controller", ["%00", "ci-1%00", "%FF", "ci-1%2F..", "'; DROP TABLE--", "%E2%80%AE", "ci-1 "])
def test_controller_ids_of_any_kind_are_401_or_404(device: Device, controller: str) -> None:
    device.base = f"/DEFAULT/controller/v1/{controller}"
    assert device.get().status_code in {401, 404}


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.sampled_from(["closed", "proceeding", "download", "none", "success", "merge", "remove", ""])
STATUS = st.fixed_dictionaries(
    {"execution": WORDS | JSON, "result": st.fixed_dictionaries({"finished": WORDS | JSON}) | JSON},
    optional={"details": st.lists(JSON, max_size=5) | JSON, "code": JSON},
)
BODY = st.fixed_dictionaries({}, optional={"status": STATUS | JSON, "data": JSON, "mode": WORDS | JSON, "id": JSON})


@examples(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=BODY | JSON)
def test_any_json_is_answered(device: Device, deployment: Deployment, body: Any) -> None:
    device.fetch(deployment)
    raw = json.dumps(body)
    for method, path in (
        ("PUT", "/configData"),
        ("POST", f"/deploymentBase/{deployment.pk}/feedback"),
        ("POST", f"/cancelAction/{deployment.pk}/feedback"),
    ):
        assert device.send(method, path, raw).status_code in {200, 400, 404, 405, 410, 429}
    assert state(deployment)


def test_only_what_is_kept_of_many_details_costs_anything(
    device: Device, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.fetch(deployment)
    cleaned: list[str] = []
    monkeypatch.setattr(messages, "clean", lambda text, limit: cleaned.append(text) or text[:limit])
    numbers: Any = range(20_000)
    assert device.report(deployment, "closed", "failure", *numbers).status_code == 200
    assert len(cleaned) <= 2 * MAX_DETAILS
    details = deployment.events.filter(kind="report").latest("id").details
    assert (len(details), details[0], details[-1]) == (MAX_DETAILS, "0", "19999")
