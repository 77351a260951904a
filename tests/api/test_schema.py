"""The API describes itself, completely and without guesses."""

import re

import pytest
from django.core.management import call_command

from tests.api.world import routes


@pytest.fixture(scope="module")
def schema(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("schema") / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(path))
    return path.read_text()


def test_it_is_valid_and_nothing_had_to_be_guessed(schema):
    assert "openapi: 3." in schema


def test_every_route_is_described(schema):
    described = set(re.findall(r"^  /api/v1/(.*):$", schema, re.M))
    there = {re.sub(r"<\w+:(\w+)>", r"{\1}", path) for _method, path in routes()} - {""}
    assert described == there


def test_verbs_say_that_they_may_be_refused(schema):
    operation = schema.split("operationId: incident_resolve")[1].split("operationId:")[0]
    for status in ("'200'", "'400'", "'401'", "'403'", "'404'", "'409'"):
        assert status in operation


@pytest.mark.django_db
def test_the_docs_page_has_a_policy_of_its_own_without_scripts_from_elsewhere(client):
    page = client.get("/api/docs/")
    assert page.status_code == 200
    policy = {part.strip() for part in page["Content-Security-Policy"].split(";")}
    assert {"script-src 'self'", "default-src 'none'", "frame-ancestors 'none'"} <= policy
    html = page.content.decode()
    assert not re.search(r"<script(?![^>]*src=)", html)
    for address in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert address.startswith("/"), address
    script = client.get(re.search(r'src="(/api/docs/[^"]*)"', html)[1])
    assert "javascript" in script["Content-Type"]
    assert client.get("/api/schema/").status_code == 200
