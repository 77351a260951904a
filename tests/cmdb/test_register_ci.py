"""Registering CIs and giving their agents secrets."""

import hashlib

import pytest

from cmdb.models import AgentToken, CIClass
from cmdb.services import authenticate_agent, issue_agent_token, register_ci, revoke_agent_token
from tests.factories import NOW, make_ci, make_user
from tickets.exceptions import InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def server() -> CIClass:
    return CIClass.objects.create(name="Server", slug="server")


def test_a_ci_with_an_agent(server: CIClass) -> None:
    admin = make_user("anna", "administrator")
    ci = register_ci(actor=admin, now=NOW, name="srv-7", ci_class=server, agent_id="srv-7", owner=admin)
    ci.refresh_from_db()
    assert (ci.name, ci.agent_id, ci.owner, ci.created_at, ci.lifecycle) == (
        "srv-7",
        "srv-7",
        admin,
        NOW,
        "in_operation",
    )


def test_several_cis_without_an_agent(server: CIClass) -> None:
    for name in ("printer-1", "printer-2"):
        assert register_ci(actor=None, now=NOW, name=name, ci_class=server, agent_id="").agent_id is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "srv-1"}, "name"),
        ({"agent_id": "srv-1"}, "agent_id"),
        ({"agent_id": "../etc"}, "agent_id"),
        ({"agent_id": "a" * 129}, "agent_id"),
        ({"name": ""}, "name"),
    ],
)
def test_what_is_taken_or_wrong_is_refused(server: CIClass, values: dict[str, str], field: str) -> None:
    make_ci("srv-1", agent_id="srv-1", ci_class=server)
    with pytest.raises(InvalidInput) as refusal:
        register_ci(actor=None, now=NOW, ci_class=server, **({"name": "srv-2"} | values))
    assert refusal.value.field == field


def test_a_copy_is_made_of_a_production_ci_only(server: CIClass) -> None:
    copy = register_ci(actor=None, now=NOW, name="copy", ci_class=server, copy_of=make_ci("srv-1", ci_class=server))
    assert copy.copy_of is not None
    with pytest.raises(InvalidInput):
        register_ci(actor=None, now=NOW, name="copy of copy", ci_class=server, copy_of=copy)


def test_it_needs_the_right(server: CIClass) -> None:
    outsider, ci = make_user("otto", "requester"), make_ci("srv-1", agent_id="srv-1")
    issue_agent_token(ci, actor=None, now=NOW)
    for call in (
        lambda: register_ci(actor=outsider, now=NOW, name="x", ci_class=server),
        lambda: issue_agent_token(ci, actor=outsider, now=NOW),
        lambda: revoke_agent_token(AgentToken.objects.get(), actor=outsider, now=NOW),
    ):
        with pytest.raises(PermissionRefused):
            call()


def test_a_token_is_shown_once_and_kept_as_a_digest() -> None:
    ci = make_ci("srv-1", agent_id="srv-1")
    token = issue_agent_token(ci, actor=None, now=NOW)
    kept = AgentToken.objects.get()
    assert len(token) >= 43
    assert kept.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert authenticate_agent("srv-1", token) == ci


def test_two_tokens_are_valid_and_the_third_ends_the_first() -> None:
    ci = make_ci("srv-1", agent_id="srv-1")
    first, second, third = [issue_agent_token(ci, actor=None, now=NOW) for _ in range(3)]
    assert [authenticate_agent("srv-1", token) for token in (first, second, third)] == [None, ci, ci]
    newest = AgentToken.objects.latest("id")
    assert revoke_agent_token(newest, actor=None, now=NOW)
    assert not revoke_agent_token(newest, actor=None, now=NOW)
    assert [authenticate_agent("srv-1", token) for token in (second, third)] == [ci, None]


def test_a_ci_without_an_agent_gets_no_token() -> None:
    with pytest.raises(InvalidInput):
        issue_agent_token(make_ci("mute"), actor=None, now=NOW)


def test_authentication_takes_one_query_for_known_and_unknown(django_assert_num_queries) -> None:
    ci = make_ci("srv-1", agent_id="srv-1")
    token = issue_agent_token(ci, actor=None, now=NOW)
    for agent_id, given in (("srv-1", token), ("srv-1", "wrong"), ("nobody", token)):
        with django_assert_num_queries(1):
            assert (authenticate_agent(agent_id, given) is not None) == ((agent_id, given) == ("srv-1", token))
    with django_assert_num_queries(0):
        assert authenticate_agent("srv-1\x00", token) is None
        assert authenticate_agent("srv-1", token * 100) is None
