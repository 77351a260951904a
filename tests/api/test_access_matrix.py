"""Who may call what: every route for every role, on what is his own and on what is another's.

`access_matrix.json` is read by people: what is not listed under `allowed` or `invisible` is refused with 403. After a
deliberate change write it anew with `WRITE_ACCESS_MATRIX=1` and read the difference.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.urls import resolve
from rest_framework.test import APIRequestFactory, force_authenticate

from accounts.models import User
from tests.api.world import ROLE_NAMES, Objects, make_objects, person, routes
from tests.factories import make_user

pytestmark = pytest.mark.django_db
MATRIX = Path(__file__).with_name("access_matrix.json")
ROUTES = sorted({f"{method} {path}" for method, path in routes()})
FACTORY = APIRequestFactory()
PUBLIC = {"POST login/"}
EVERYBODY, NOBODY = "everybody", "nobody"


def call(user: User | None, route: str, objects: Objects) -> int:
    """The answer's status; whatever the call did is undone. The view is called without middleware, for speed."""
    method, path = route.split(" ", 1)
    body: dict[str, Any] = {}
    if path.startswith("chain/"):
        path = path.replace("<str:number>", f"inc{objects.keys['incidents']}")
    elif "<str:number>" in path:
        path = path.replace("<int:key>", str(objects.keys.get("/".join(path.split("/")[0:3:2]))))
        path = path.replace("<str:number>", str(objects.keys[path.split("/", 1)[0]]))
    # Where the service itself decides who may, it must be reached.
    if route.endswith("/exclude_ci/"):
        body = {"ci": objects.keys["cis"], "reason": "Not today."}
    elif route.endswith("/comment/"):
        body = {"text": "Seen."}
    request = FACTORY.generic(method, f"/api/v1/{path}", json.dumps(body), content_type="application/json")
    if user is not None:
        force_authenticate(request, user)
    match = request.resolver_match = resolve(f"/api/v1/{path}")
    if method == "GET":
        answer = match.func(request, *match.args, **match.kwargs)
    else:
        with transaction.atomic():
            answer = match.func(request, *match.args, **match.kwargs)
            transaction.set_rollback(True)
    assert answer.status_code < 500, (route, answer.data)
    return answer.status_code


def outcome(status: int) -> str:
    return {401: "anonymous", 403: "forbidden", 404: "invisible"}.get(status, "allowed")


def found_for(role: str, own: Objects, other: Objects) -> dict[str, dict[str, str]]:
    user = person(role)
    own.give_to(user)
    found: dict[str, dict[str, str]] = {}
    for route in ROUTES:
        if route in PUBLIC or "logout" in route:
            continue
        whose = {"own": own, "other": other} if "<" in route else {"own": own}
        found[route] = {name: outcome(call(user, route, objects)) for name, objects in whose.items()}
    return found


@pytest.fixture
def sets() -> tuple[Objects, Objects]:
    author = make_user("author")
    return make_objects("own", make_user("first-owner"), author), make_objects("other", make_user("other"), author)


def expected(matrix: dict[str, Any], role: str) -> dict[str, dict[str, str]]:
    def one(cell: dict[str, Any]) -> str:
        for name in ("allowed", "invisible"):
            if cell[name] == EVERYBODY or role in cell[name]:
                return name
        return "forbidden"

    return {route: {whose: one(cell) for whose, cell in cells.items()} for route, cells in matrix.items()}


def test_every_route_is_in_the_matrix():
    listed = set(json.loads(MATRIX.read_text()))
    there = {route for route in ROUTES if route not in PUBLIC and "logout" not in route}
    assert listed == there, f"not listed: {sorted(there - listed)}; gone: {sorted(listed - there)}"


@pytest.mark.skipif(bool(os.environ.get("WRITE_ACCESS_MATRIX")), reason="it is being written")
@pytest.mark.parametrize(
    "roles",
    # Half of the roles take as long as everything else here: they come with the longer suites.
    [pytest.param(ROLE_NAMES[i::4], marks=[pytest.mark.slow] if i in (1, 2) else []) for i in range(4)],
    ids=", ".join,
)
def test_a_role_may_do_what_the_matrix_says_and_no_more(roles, sets):
    listed = json.loads(MATRIX.read_text())
    different = []
    for role in roles:
        matrix = expected(listed, role)
        for route, cells in found_for(role, *sets).items():
            for whose, result in cells.items():
                wanted = matrix.get(route, {}).get(whose)
                if wanted != result:
                    different.append(f"{role}: {route} ({whose}): {wanted} → {result}")
    assert not different


def test_nobody_gets_in_without_a_token(sets):
    own, _other = sets
    for route in ROUTES:
        if route not in PUBLIC:
            assert call(None, route, own) == 401, route


@pytest.mark.skipif(not os.environ.get("WRITE_ACCESS_MATRIX"), reason="only to write the matrix anew")
def test_write_the_matrix(sets):
    results = {role: found_for(role, *sets) for role in ROLE_NAMES}
    matrix: dict[str, Any] = {}
    for route, cells in results[ROLE_NAMES[0]].items():
        matrix[route] = {}
        for whose in cells:
            cell = {}
            for kind in ("allowed", "invisible"):
                roles = [role for role in ROLE_NAMES if results[role][route][whose] == kind]
                cell[kind] = EVERYBODY if len(roles) == len(ROLE_NAMES) else roles or NOBODY
            matrix[route][whose] = cell
    MATRIX.write_text(json.dumps(matrix, indent=1) + "\n")
