"""Every invariant is broken on purpose, and seen. The damage is done behind every constraint."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from releases import services
from releases.invariants import UNDECIDED, check_invariants
from releases.models import Rollout
from tests.releases.world import BIG_BANG, POLICY, World

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(media: Path) -> World:
    """Rollout 1 (two waves, paused and resumed once) completed; rollout 2 rolled back; all of it sound."""
    world = World()
    one, *_ = world.add_cis(4)
    phased = world.started(policy=POLICY, targets={"exclude": [agent.ci.pk for agent in world.devices[2:]]})
    world.tick()
    services.pause_rollout(phased, actor=world.olga, now=world.now, reason="a look")
    world.now += timedelta(seconds=100)
    services.resume_rollout(phased, actor=world.sven, now=world.now)
    world.pass_time(5)
    back = world.started(policy=BIG_BANG, targets={"exclude": [one.pk, world.devices[1].ci.pk]})
    world.tick()
    world.now += timedelta(seconds=1)
    world.pass_time(3)
    services.roll_back_rollout(back, actor=world.sven, now=world.now, reason="broken")
    world.pass_time(2)
    assert list(Rollout.objects.order_by("pk").values_list("state", flat=True)) == ["completed", "rolled_back"]
    assert check_invariants(tolerance=0) == []
    return world


def break_it(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            assert cursor.rowcount != 0, f"nothing was broken by: {statement}"


FIRST = "(SELECT min(id) FROM releases_rollout)"
LAST = "(SELECT max(id) FROM releases_rollout)"
OF_FIRST = f"batch_id IN (SELECT batch_id FROM releases_wave WHERE rollout_id = {FIRST} AND kind = 'forward')"
OF_LAST = f"batch_id IN (SELECT batch_id FROM releases_wave WHERE rollout_id = {LAST} AND kind = 'forward')"
BACK = "batch_id IN (SELECT batch_id FROM releases_wave WHERE kind = 'rollback')"
ONE = f"(SELECT min(id) FROM distribution_deployment WHERE {OF_FIRST})"
COLUMNS = (
    "batch_id, ci_id, attempt, state, state_before_cancel, weight, created_at, moved_at, finished_at, error_code, "
    "message, reports, reason"
)


def copy_of(where: str, **values: str) -> str:
    """A statement that inserts a deployment like another one, with some columns changed."""
    chosen = ", ".join(values.get(column.strip(), column) for column in COLUMNS.split(","))
    return f"INSERT INTO distribution_deployment ({COLUMNS}) SELECT {chosen} FROM distribution_deployment WHERE {where}"


DAMAGE: list[tuple[str, str, list[str]]] = [
    ("I1", "first deployments", ["UPDATE releases_rollout SET target_count = target_count + 1"]),
    ("I1", "not those of its hash", ["UPDATE releases_rollout SET target_hash = 'x'"]),
    (
        "I1",
        "is in 2 waves",
        [copy_of(f"id = {ONE}", batch_id=f"(SELECT max(batch_id) FROM releases_wave WHERE rollout_id = {FIRST})")],
    ),
    ("I1", "has size", ["UPDATE releases_wave SET size = size + 1 WHERE kind = 'forward'"]),
    (
        "I1",
        "copy for tests",
        [
            "UPDATE cmdb_configurationitem SET copy_of_id = (SELECT max(id) FROM cmdb_configurationitem) "
            "WHERE name = 'srv-1'"
        ],
    ),
    (
        "I2",
        "live deployments",
        [
            "DROP INDEX distribution_one_live_per_ci",
            f"UPDATE distribution_deployment SET state = 'offered', finished_at = NULL WHERE {OF_LAST}",
            f"UPDATE distribution_deployment SET state = 'offered', finished_at = NULL WHERE {BACK}",
        ],
    ),
    (
        "I2",
        "before deployment",
        [
            f"UPDATE distribution_deploymentevent SET to_state = 'installing' WHERE to_state = 'succeeded' "
            f"AND deployment_id IN (SELECT id FROM distribution_deployment WHERE {OF_LAST})"
        ],
    ),
    (
        "I2",
        "distribution_one_live_per_ci is missing",
        ["DROP INDEX distribution_one_live_per_ci"],
    ),
    (
        "I3",
        "reports of its device and has",
        ["UPDATE distribution_deployment SET reports = reports + 1 WHERE reports > 0"],
    ),
    (
        "I3",
        "are not marked as repetitions",
        ["UPDATE distribution_deploymentevent SET fingerprint = 'x' WHERE kind = 'report'"],
    ),
    (
        "I4",
        "event",
        ["DELETE FROM distribution_deploymentevent WHERE kind = 'offered'"],
    ),
    (
        "I4",
        "event",
        [
            "INSERT INTO distribution_deploymentevent (deployment_id, kind, from_state, to_state, at, execution, "
            "result, details, is_duplicate) SELECT id, 'report', 'succeeded', 'succeeded', now(), '', '', '[]', false "
            "FROM distribution_deployment WHERE state = 'succeeded'"
        ],
    ),
    ("I4", "event", ["UPDATE distribution_deploymentevent SET to_state = 'queued' WHERE to_state = 'offered'"]),
    ("I4", "its last event says", ["UPDATE distribution_deployment SET state = 'failed' WHERE state = 'succeeded'"]),
    (
        "I5",
        "was offered 2 times",
        [
            "INSERT INTO distribution_deploymentevent (deployment_id, kind, from_state, to_state, at, execution, "
            "result, details, is_duplicate) SELECT deployment_id, kind, from_state, to_state, at, '', '', '[]', false "
            "FROM distribution_deploymentevent WHERE kind = 'offered'"
        ],
    ),
    (
        "I5",
        "after its device had closed it",
        ["UPDATE distribution_deploymentevent SET kind = 'offered' WHERE kind = 'attributes'"],
    ),
    ("I5", "not a recorded retry", [copy_of(f"id = {ONE}", attempt="2")]),
    (
        "I6",
        "verdicts of kind",
        [
            "SET CONSTRAINTS ALL IMMEDIATE",
            "ALTER TABLE releases_verdict DROP CONSTRAINT release_verdict_once",
            "INSERT INTO releases_verdict (wave_id, kind, round, outcome, numbers, policy, event_position, at) "
            "SELECT wave_id, kind, round, outcome, numbers, policy, event_position, at FROM releases_verdict",
        ],
    ),
    ("I6", "began", ["UPDATE releases_wave SET started_at = started_at + interval '1 hour' WHERE kind = 'forward'"]),
    (
        "I6",
        "had passed",
        ["UPDATE releases_wave SET started_at = started_at - interval '1 hour' WHERE number = 2"],
    ),
    ("I6", "had passed", ["DELETE FROM releases_verdict WHERE kind = 'pass'"]),
    ("I6", "says otherwise", ["UPDATE releases_verdict SET outcome = 'breached', kind = 'error' WHERE kind = 'pass'"]),
    ("I6", "no rule gives", ["UPDATE releases_verdict SET outcome = 'breached' WHERE kind = 'pass'"]),
    ("I6", "says otherwise", ["UPDATE releases_verdict SET event_position = 0"]),
    (
        "I6",
        "another policy",
        ["UPDATE releases_verdict SET policy = jsonb_set(policy, '{soak_seconds}', '1')"],
    ),
    (
        "I7",
        "was stopped",
        [
            f"UPDATE distribution_deployment SET offered_at = (SELECT at + interval '50 s' FROM releases_rolloutevent "
            f"WHERE kind = 'paused') WHERE id = {ONE}",
        ],
    ),
    (
        "I8",
        "neither back nor listed",
        [f"UPDATE distribution_deployment SET state = 'failed' WHERE {BACK}"],
    ),
    ("I8", "was sent back 2 times", [copy_of(BACK, attempt="2")]),
    (
        "I8",
        "lists CI",
        [
            "INSERT INTO releases_rolloutexception (release_id, rollout_id, ci_id, kind, reason, content_hash, "
            f"created_at) SELECT release_id, id, (SELECT min(id) FROM cmdb_configurationitem), 'rollback_failed', '', "
            f"'', now() FROM releases_rollout WHERE id = {LAST}"
        ],
    ),
    (
        "I8",
        "although it had one",
        [
            "INSERT INTO releases_rolloutexception (release_id, rollout_id, ci_id, kind, reason, content_hash, "
            "created_at) SELECT r.release_id, r.id, d.ci_id, 'no_way_back', '', '', now() FROM releases_rollout r, "
            f"distribution_deployment d WHERE r.id = {FIRST} AND d.id = ("
            "SELECT min(d.id) FROM distribution_deployment d "
            f"JOIN releases_wave w ON w.batch_id = d.batch_id AND w.rollout_id = {FIRST} WHERE w.kind = 'forward' "
            "AND d.state = 'succeeded')"
        ],
    ),
    (
        "I9",
        "not overdue",
        [f"UPDATE distribution_deployment SET state = 'offered', finished_at = NULL WHERE {OF_FIRST}"],
    ),
    ("I9", "still to be done", ["UPDATE releases_rollout SET cascade = 'completed'"]),
    ("I9", "what it waits for", [f"UPDATE releases_rollout SET state = 'paused' WHERE id = {FIRST}"]),
    (
        "I10",
        "in one thread",
        [
            "SET CONSTRAINTS ALL IMMEDIATE",
            "ALTER TABLE notifications_outbox DROP CONSTRAINT notifications_outbox_once",
            "INSERT INTO notifications_outbox (event, recipient_id, thread, subject, text, html, path, state, "
            "attempts, next_attempt_at, last_error, created_at) SELECT event, recipient_id, thread, subject, text, "
            "html, path, state, attempts, next_attempt_at, last_error, created_at FROM notifications_outbox",
        ],
    ),
    (
        "I10",
        "notifications_outbox_once is missing",
        ["SET CONSTRAINTS ALL IMMEDIATE", "ALTER TABLE notifications_outbox DROP CONSTRAINT notifications_outbox_once"],
    ),
    ("I10", "without saying", ["UPDATE notifications_outbox SET state = 'dead'"]),
    ("I10", "without saying", ["UPDATE notifications_outbox SET state = 'bundled'"]),
    ("I10", "without saying", ["UPDATE notifications_outbox SET state = 'withdrawn', read_at = NULL"]),
    ("I10", "without saying", ["UPDATE notifications_outbox SET state = 'lost'"]),
    ("I11", "without a valid approval", ["UPDATE releases_releaseapproval SET content_hash = 'x'"]),
    (
        "I11",
        "without a valid approval",
        ["UPDATE releases_releaseapproval SET approver_id = (SELECT min(created_by_id) FROM releases_release)"],
    ),
    (
        "I11",
        "without a valid approval",
        ["UPDATE releases_releaseapproval SET created_at = created_at + interval '1 day'"],
    ),
    ("I11", "without a passed test", ["DELETE FROM releases_rolloutexception WHERE kind = 'test_skipped'"]),
    ("I11", "no longer what was approved", ["UPDATE releases_release SET targets = '{}'"]),
    ("I12", "has no stored file", ["DELETE FROM software_artifact"]),
    (
        "I12",
        "not in the approved package",
        ["UPDATE releases_packageitem SET version_id = (SELECT min(id) FROM software_version)"],
    ),
    ("I12", "was stored after", ["UPDATE software_artifact SET uploaded_at = now() + interval '10 years'"]),
    ("I12", "the row says", ["UPDATE software_artifact SET sha256 = repeat('0', 64)"]),
    ("I12", "cannot be read", ["UPDATE software_artifact SET file = 'dml/gone'"]),
    (
        "I14",
        "had not the deployment in hand",
        [
            f"UPDATE distribution_deploymentevent SET kind = 'push', result = 'run 1' WHERE deployment_id = {ONE} "
            "AND to_state = 'installing'"
        ],
    ),
    (
        "I14",
        "at a time",
        [
            "INSERT INTO distribution_pushrun (kind, lease, leased_until, started_at, ended_at, outcome, note) SELECT "
            "'install', gen_random_uuid(), now(), now(), now() + interval '1 minute', 'finished', '' "
            "FROM generate_series(1, 2)",
            "INSERT INTO distribution_pushtarget (run_id, deployment_id, log, ended_at) SELECT id, "
            f"{ONE}, '', ended_at FROM distribution_pushrun",
        ],
    ),
    (
        "I15",
        "configuration database says",
        ["""UPDATE cmdb_configurationitem SET attributes = '{"version.billing": "9.9"}'"""],
    ),
    (
        "I15",
        "never ran version",
        ["UPDATE cmdb_installedversion SET version_id = NULL"],
    ),
]


@pytest.mark.slow
def test_every_damage_is_seen(company: World) -> None:
    unseen = []
    for invariant, text, statements in DAMAGE:
        sid = transaction.savepoint()
        break_it(*statements)
        found = [v for v in check_invariants(tolerance=0) if v.invariant == invariant]
        if not any(text in v.text for v in found):
            unseen.append((invariant, text, found))
        transaction.savepoint_rollback(sid)
    assert unseen == []
    assert check_invariants(tolerance=0) == [], "the damage was undone each time"
    assert {"I3", *UNDECIDED, *(invariant for invariant, _, _ in DAMAGE)} == {f"I{n}" for n in range(1, 17)}


@pytest.mark.parametrize(
    "values",
    [
        "state = 'pending'",
        "state = 'portal_only'",
        "state = 'held'",
        "state = 'bundled', digest_id = (SELECT min(id) FROM notifications_outbox)",
        "state = 'withdrawn', read_at = now()",
        "state = 'dead', last_error = 'no such mailbox'",
    ],
)
def test_a_message_may_end_in_each_of_its_states(company: World, values: str) -> None:
    break_it(f"UPDATE notifications_outbox SET {values}")
    assert check_invariants(tolerance=0) == []


def journal(folder: Path, deployment: int, *statuses: int | None) -> None:
    lines = [{"kind": "feedback", "action": str(deployment), "status": status, "body": {}} for status in statuses]
    lines.append({"kind": "configData", "action": None, "status": 200, "body": {}})
    (folder / "srv-1").mkdir(exist_ok=True)
    text = "\n".join(json.dumps(line) for line in lines) + "\n{cut by a full disk"
    (folder / "srv-1" / "journal.jsonl").write_text(text)


def run(capsys: Any, *arguments: str) -> tuple[int, str]:
    code = 0
    try:
        call_command("check_invariants", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def compare_journals(tmp_path: Path) -> None:
    with connection.cursor() as cursor:
        reported = f"SELECT {ONE}, count(*) FROM distribution_deploymentevent WHERE kind = 'report'"
        cursor.execute(f"{reported} AND deployment_id = {ONE}")
        deployment, reports = cursor.fetchone()
    assert reports == 3
    for statuses, is_sound in (
        ([200, 200, 200], True),
        ([200, None, 200], True),
        ([200, 200, 200, 410], True),
        ([200, 200, 200, 200], False),
        ([200, 200], False),
    ):
        journal(tmp_path, deployment, *statuses)
        found = check_invariants(journals=tmp_path, tolerance=0)
        assert [v.invariant for v in found] == ([] if is_sound else ["I3"]), statuses


def test_the_command_and_the_agents_journals(company: World, capsys: Any, tmp_path: Path) -> None:
    compare_journals(tmp_path)
    code, text = run(capsys)
    assert code == 0
    assert text.endswith("0 violations\n")
    for name in (*UNDECIDED, "I3"):
        assert f"{name}: not decided here" in text
    break_it("UPDATE releases_rollout SET target_count = 9")
    (tmp_path / "srv-1" / "journal.jsonl").unlink()
    code, text = run(capsys, "--json", "--journals", str(tmp_path), "--no-files")
    answer = json.loads(text)
    assert code == 1
    assert {v["invariant"] for v in answer["violations"]} == {"I1"}
    assert set(answer["undecided"]) == set(UNDECIDED)


def test_an_empty_database_is_sound(db: None) -> None:
    assert check_invariants() == []
