"""Declaring a freeze, changing it, ending it; everybody may read when nothing is changed."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from changes.freezes import declare_freeze, edit_freeze
from changes.models import Freeze
from tests.factories import NOW, make_user
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def values(**changed: Any) -> dict[str, Any]:
    return {"name": "Year end", "reason": "The books.", "starts_at": NOW + HOUR, "ends_at": NOW + 2 * HOUR, **changed}


def test_a_change_manager_declares_a_freeze_and_nobody_else(db: None) -> None:
    freeze = declare_freeze(actor=make_user("cora", "change manager"), now=NOW, **values())
    assert not Freeze.objects.in_force(NOW).exists()
    assert list(Freeze.objects.in_force(NOW + HOUR)) == [freeze]
    assert not Freeze.objects.in_force(NOW + 2 * HOUR).exists()
    with pytest.raises(PermissionRefused):
        declare_freeze(actor=make_user("rita", "change requester"), now=NOW, **values())


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("name", {"name": " "}),
        ("reason", {"reason": ""}),
        ("ends_at", {"ends_at": NOW}),
        ("ends_at", {"starts_at": NOW - 2 * HOUR, "ends_at": NOW - HOUR}),
        ("starts_at", {"starts_at": (NOW + HOUR).replace(tzinfo=None)}),
    ],
)
def test_a_freeze_that_makes_no_sense_is_refused(field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        declare_freeze(actor=make_user("cora", "change manager"), now=NOW, **values(**wrong))
    assert refused.value.field == field


def test_an_end_in_the_past_ends_it_now_and_what_is_over_stays_as_it_was(db: None) -> None:
    cora = make_user("cora", "change manager")
    freeze = declare_freeze(actor=cora, now=NOW, **values(starts_at=NOW))
    later = NOW + HOUR
    edit_freeze(freeze, actor=cora, now=later, ends_at=NOW)
    freeze.refresh_from_db()
    assert freeze.ends_at == later
    with pytest.raises(ConditionRefused, match="is over"):
        edit_freeze(freeze, actor=cora, now=later, ends_at=later + HOUR)


def test_the_page_shows_them_to_everybody_and_lets_change_managers_write(client: Client) -> None:
    cora, rita = make_user("cora", "change manager"), make_user("rita", "requester")
    freeze = declare_freeze(actor=cora, now=NOW, **values(starts_at=NOW, ends_at=NOW + timedelta(days=36500)))
    client.force_login(rita)
    assert b"Year end" in client.get("/changes/freezes/").content
    page = f"/changes/freezes/{freeze.number}/"
    sent = {"name": "Mine", "reason": "x", "starts_at": "2026-01-01T00:00", "ends_at": "2100-01-01T00:00"}
    assert client.get(page).status_code == 200
    assert client.post(page, sent).status_code == 403
    assert client.get("/changes/freezes/new/").status_code == 403
    client.force_login(cora)
    assert client.post(page, sent).status_code == 302
    assert client.post("/changes/freezes/new/", {**sent, "name": "Second"}).status_code == 302
    assert set(Freeze.objects.values_list("name", flat=True)) == {"Mine", "Second"}
