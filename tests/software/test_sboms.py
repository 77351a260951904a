"""Bills of materials: checked when they are attached, and searched for what is in them."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken
from rest_framework.test import APIClient

from software import sboms
from software.models import Component, Sbom, Version
from software.sboms import attach_sbom, search_components
from tests.factories import NOW, make_product, make_user, make_version
from tickets.exceptions import InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db
LOG4J = {
    "type": "library",
    "name": "log4j-core",
    "version": "2.14.1",
    "purl": "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
    "licenses": [{"license": {"id": "Apache-2.0"}}],
}


@pytest.fixture
def version() -> Version:
    return make_version(make_product("billing"), "2.0")


def document(*components: Any, **values: Any) -> bytes:
    content = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": list(components), **values}
    return json.dumps(content).encode()


def attach(version: Version, content: bytes, actor: Any = None) -> Sbom:
    return attach_sbom(version, actor=actor, now=NOW, content=content)


def test_components_are_listed_nested_ones_too_and_found(version: Version) -> None:
    nested = {"type": "application", "name": "app", "components": [LOG4J, {"type": "file", "name": "x"}]}
    attach(version, document(nested))
    assert sorted(Component.objects.values_list("name", flat=True)) == ["app", "log4j-core", "x"]
    found = search_components("LOG4J").get()
    assert (found.version, found.licences, found.sbom.version) == ("2.14.1", "Apache-2.0", version)
    assert search_components("apache.logging").get() == found
    assert not search_components("nothing").exists()


def test_a_new_one_replaces_the_old_one(version: Version) -> None:
    attach(version, document(LOG4J))
    attach(version, document({**LOG4J, "version": "2.17.1"}))
    assert list(Component.objects.values_list("version", flat=True)) == ["2.17.1"]
    assert Sbom.objects.count() == 1


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"null", b"\xff\xfe", b"<bom/>",
        document(bomFormat="SPDX"), document(specVersion="9.9"), document(specVersion=1.6),
        document(components={}), document(components="x"), document(1), document({}), document({"type": "library"}),
        document({"type": "library", "name": 1}), document({"type": "library", "name": "a\x00b"}),
        document({"type": "library", "name": "a\nb"}), document({"type": "library", "name": "a", "version": 2}),
        document({"type": "library", "name": "a", "components": 1}),
        b'{"bomFormat": "CycloneDX", "bomFormat": "CycloneDX", "specVersion": "1.6"}',
        b"[" * 200_000,
    ],
    ids=range(21),
)  # fmt: skip
def test_what_is_no_bill_of_materials_is_refused_and_the_old_one_stays(version: Version, content: bytes) -> None:
    attach(version, document(LOG4J))
    with pytest.raises(InvalidInput) as refusal:
        attach(version, content)
    assert refusal.value.code == "sbom_invalid"
    assert Component.objects.get().name == "log4j-core"


def test_odd_licences_are_left_out_and_long_texts_cut(version: Version) -> None:
    odd = [1, {}, {"license": 3}, {"license": {"name": "Own"}}, {"expression": "MIT OR Apache-2.0"}]
    attach(version, document({"type": "library", "name": "n" * 400, "licenses": odd}))
    component = Component.objects.get()
    assert (len(component.name), component.licences) == (255, "Own, MIT OR Apache-2.0")


def test_size_and_number_are_limited(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sboms, "MAX_COMPONENTS", 2)
    attach(version, document(LOG4J, LOG4J))
    with pytest.raises(InvalidInput, match="at most 2"):
        attach(version, document({**LOG4J, "components": [LOG4J, LOG4J]}))
    monkeypatch.setattr(sboms, "MAX_VALUES", 50)
    with pytest.raises(InvalidInput, match="at most 50 values"):
        attach(version, document(x=[[]] * 60))
    monkeypatch.setattr(sboms, "MAX_BYTES", 10)
    with pytest.raises(InvalidInput, match="at most 10 bytes"):
        attach(version, document())


@pytest.mark.parametrize("lookup", [{"name__icontains": "log4j"}, {"purl__icontains": "log4j"}, {"name__iexact": "x"}])
def test_parts_of_texts_are_found_by_an_index(version: Version, lookup: dict[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "software_component_" in Component.objects.filter(**lookup).order_by().explain()


def test_it_needs_the_right(version: Version) -> None:
    with pytest.raises(PermissionRefused):
        attach(version, document(), actor=make_user("otto", "requester"))


def test_over_http_it_comes_back_byte_by_byte(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    erik = APIClient()
    token = AuthToken.objects.create(make_user("erik", "release engineer"))[1]
    erik.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    path, content = f"/api/v1/versions/{version.pk}/sbom/", document(LOG4J)
    assert erik.get(path).status_code == 404
    made = erik.post(path, content, content_type="application/vnd.cyclonedx+json")
    assert (made.status_code, made.json()["components"]) == (201, 1), made.content
    assert erik.get(path).content == content
    assert erik.post(path, b"{}", content_type="application/json").json()["errors"][0]["attr"] == "sbom"
    (found,) = erik.get("/api/v1/components/", {"q": "log4j"}).json()["results"]
    assert (found["product"], found["version_label"], found["version"]) == ("billing", "2.0", "2.14.1")
    monkeypatch.setattr(sboms, "MAX_BYTES", 10)
    assert erik.post(path, content, content_type="application/json").status_code == 413


def test_the_pages_show_them(version: Version) -> None:
    attach(version, document(LOG4J, {"type": "library", "name": "<b>odd</b>"}))
    client = Client()
    client.force_login(make_user("otto", "requester"))
    address = reverse("version_detail", args=["billing", "2.0"])
    page = client.get(address).content.decode()
    assert "log4j-core" in page
    assert "<b>odd" not in page
    assert "odd&lt;" not in client.get(address, {"q": "log4j"}).content.decode()
    found = client.get(reverse("components"), {"q": "log4j"}).content.decode()
    assert address in found
    assert "log4j-core" not in client.get(reverse("components")).content.decode()
