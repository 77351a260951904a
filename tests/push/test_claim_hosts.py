"""Which hosts a run takes: batches, caps, weight and order hold as for devices; nobody else gets them."""

import threading
from typing import Any

import pytest
import yaml
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from cmdb import services as cmdb
from cmdb.models import ConfigurationItem, Connection
from distribution import device
from distribution.channels.ansible.claims import advance_push, claim, held, wanted_runs
from distribution.channels.ansible.connections import connect_ci, disconnect_ci
from distribution.channels.ansible.models import PushRun, PushTarget
from distribution.channels.ansible.run_folder import quoted, run_folder
from distribution.services import cancel_open, close_batch, exclude_deployment
from software.models import Version
from tests.distribution.fleet import make_batch, make_fleet, queue, state
from tests.factories import NOW, make_user
from tests.push.conftest import MakeHost, claimed
from tickets.clock import database_now
from tickets.exceptions import InvalidInput, PermissionRefused, TransitionRefused


def taken(run: PushRun) -> list[int]:
    return list(run.targets.order_by("deployment_id").values_list("deployment_id", flat=True))


def test_a_run_takes_the_heaviest_batch_up_to_its_size_and_cap(make_host: MakeHost, new: Version, settings):
    settings.PUSH_BATCH = 2
    hosts = [make_host(f"shop-{n}") for n in range(5)]
    light = queue(make_batch("ROL-0000001"), hosts[:2], new)
    heavy = queue(make_batch("ROL-0000002", weight=900, max_in_flight=2), hosts[2:], new)
    assert wanted_runs(now=database_now()) == 2

    assert taken(claimed()) == [d.pk for d in heavy[:2]]
    assert taken(claimed()) == [d.pk for d in light], "the cap of the heavy batch is full"
    assert claim(now=database_now()) is None
    assert [state(d) for d in heavy] == ["offered", "offered", "queued"]


def test_no_more_runs_than_allowed(make_host: MakeHost, new: Version, settings):
    settings.PUSH_BATCH = settings.PUSH_RUNS = 1
    queue(make_batch(), [make_host("shop-1"), make_host("shop-2")], new)
    assert wanted_runs(now=database_now()) == 1
    claimed()
    assert claim(now=database_now()) is None
    assert wanted_runs(now=database_now()) == 0


def test_many_workers_at_once_never_take_a_host_twice(make_host: MakeHost, new: Version, settings):
    settings.PUSH_BATCH, settings.PUSH_RUNS = 2, 10
    queue(make_batch(max_in_flight=7), [make_host(f"shop-{n}") for n in range(9)], new)
    runs: list[PushRun | None] = []

    def work() -> None:
        runs.append(claim(now=database_now()))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hosts = [pk for run in runs if run is not None for pk in taken(run)]
    assert len(hosts) == len(set(hosts)) == 7


def test_closed_batches_agents_hosts_and_those_already_there_are_left_alone(make_host: MakeHost, new: Version):
    closed, there = make_host("closed"), make_host("there")
    (agent,) = make_fleet(1, new.product, "1.0")
    queue(make_batch("ROL-0000001", is_open=False), [closed], new)
    queue(make_batch("ROL-0000002"), [agent], new)
    (deployment,) = queue(make_batch("ROL-0000003"), [there], new)
    cmdb.record_installed(there, product=new.product, label=new.label, now=NOW)

    assert claim(now=database_now()) is None
    assert state(deployment) == "skipped"
    assert wanted_runs(now=database_now()) == 0


def test_what_is_not_signed_is_not_offered_where_signatures_are_required(make_host: MakeHost, new: Version, settings):
    (deployment,) = queue(make_batch(), [make_host("shop-1")], new)
    settings.REQUIRE_SIGNATURES = True
    assert wanted_runs(now=database_now()) == 0
    assert claim(now=database_now()) is None
    assert state(deployment) == "queued"


def test_an_agent_on_a_pushed_ci_gets_nothing_and_can_report_nothing(make_host: MakeHost, new: Version):
    ci = make_host("shop-1")
    (deployment,) = queue(make_batch(), [ci], new)
    assert device.current_action(ci, now=NOW) == device.Action()
    assert device.find_deployment(ci, deployment.pk) is None
    claimed()
    outcome = device.report(ci, deployment.pk, execution="closed", result="success", details=[], now=NOW)
    assert outcome is device.Outcome.UNKNOWN
    assert state(deployment) == "offered"


def test_a_host_that_was_put_back_waits_for_its_batch_and_can_be_cancelled(make_host: MakeHost, new: Version):
    batch = make_batch()
    (deployment,) = queue(batch, [make_host("shop-1")], new)
    run = claimed()
    PushTarget.objects.filter(run=run).update(ended_at=NOW)
    PushRun.objects.filter(pk=run.pk).update(ended_at=NOW, outcome="broken")
    close_batch(batch)
    assert claim(now=database_now()) is None, "a paused rollout begins nothing"
    cancel_open([batch.pk], now=NOW, reason="no longer wanted")
    assert advance_push(now=database_now()) == 1
    assert state(deployment) == "cancelled"
    assert advance_push(now=database_now()) == 0, "a second tick writes nothing"


def test_an_excluded_host_gets_no_leave(make_host: MakeHost, new: Version):
    from distribution.channels.ansible.events import Results

    (deployment,) = queue(make_batch(), [make_host("shop-1")], new)
    run = claimed()
    exclude_deployment(deployment, now=NOW, reason="its owner asked")
    with run_folder(run) as folder:
        Results(run, folder).take({"event": "start", "task": "Leave to begin", "host": f"h{deployment.pk}"})
        assert [path.name for path in (folder.path / "leave").iterdir()] == [f"h{deployment.pk}.stop"]
    assert state(deployment) == "excluded"


def test_what_cannot_be_opened_fails_alone(make_host: MakeHost, new: Version, billing: Any, settings):
    from distribution.channels.ansible.events import Results

    (deployment,) = queue(make_batch(), [make_host("shop-1")], new)
    settings.PUSH_ALLOW_LOCAL = False
    run = claimed()
    with run_folder(run) as folder:
        assert oct(folder.path.stat().st_mode)[-3:] == "700"
        assert all(oct(p.stat().st_mode)[-3:] == "600" for p in folder.path.iterdir() if p.is_file())
        Results(run, folder).refuse()
    deployment.refresh_from_db()
    assert (deployment.state, deployment.error_code) == ("failed", "local_refused")
    with held(run):
        assert not run.targets.filter(ended_at=None).exists()


def test_connecting_checks_who_what_and_when(make_host: MakeHost, new: Version):
    admin = make_user("adam", "administrator")
    (ci,) = make_fleet(1, new.product, "1.0")
    local = {"kind": Connection.Kind.LOCAL, "folder": "/srv/shop"}
    with pytest.raises(PermissionRefused):
        connect_ci(ci, actor=make_user("otto", "operator"), now=NOW, **local)
    with pytest.raises(InvalidInput, match="SSH needs"):
        connect_ci(ci, actor=admin, now=NOW, folder="/srv/shop")
    for folder in ("srv", "/srv/{{ x }}", "/srv/a b", "/"):
        with pytest.raises(InvalidInput):
            connect_ci(ci, actor=admin, now=NOW, kind=Connection.Kind.LOCAL, folder=folder)
    connect_ci(ci, actor=admin, now=NOW, **local)
    ci.refresh_from_db()
    assert ci.channel == ConfigurationItem.Channel.ANSIBLE

    queue(make_batch(), [ci], new)
    claimed()
    with pytest.raises(TransitionRefused, match="being installed"):
        disconnect_ci(ci, actor=admin, now=NOW)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_any_text_is_the_same_text_for_the_inventory(text: str):
    assert yaml.safe_load("value: " + quoted({"a": text, text: [text, None, 1]})) == {
        "value": {"a": text, text: [text, None, 1]}
    }
