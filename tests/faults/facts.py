"""Everything that must be true after a rollout, whatever was killed: what was found, and what must have been."""

from collections import Counter
from typing import Any

from tests.faults.stack import NAMES, TERMINAL, Rollout, Stack

_OF_ROLLOUT = """
    distribution_deployment d
    JOIN cmdb_configurationitem ci ON ci.id = d.ci_id
    JOIN distribution_batch b ON b.id = d.batch_id
    JOIN releases_wave w ON w.batch_id = b.id
"""


def expected_facts(
    stack: Stack, rollout: Rollout, *, is_rolled_back: bool = False, had_completed: bool = False
) -> dict[str, Any]:
    """What must be found: the same for every fault, and without any. `had_completed`: before it was rolled back."""
    label = rollout.before if is_rolled_back else rollout.label
    end = "rolled_back" if is_rolled_back else "completed"
    purposes = ["forward", "rollback"] if is_rolled_back else ["forward"]
    once = {(name, purpose): 1 for name in NAMES for purpose in purposes}
    notices = list(_notices(stack, rollout, end, told_of_fix=had_completed))
    if had_completed:
        notices += _notices(stack, rollout, "completed")
    waves = [
        ("forward", 1, 1, end if is_rolled_back else "passed"),
        ("forward", 2, 7, end if is_rolled_back else "passed"),
    ]
    return {
        "rollout": [(end, True)],
        "tickets": {
            "release": end,
            "change": "authorised" if is_rolled_back else "implemented",
            "problem": "fix_in_progress" if is_rolled_back else "resolved",
            "incident": "on_hold" if is_rolled_back else "resolved",
        },
        "resolved by": "" if is_rolled_back else f"rollout:{rollout.id}:completed",
        "waves": [*waves, *([("rollback", 1, 8, "passed")] if is_rolled_back else [])],
        "on the disks": dict.fromkeys(NAMES, label),
        "reported": dict.fromkeys(NAMES, label),
        "in the configuration database": {name: [label] for name in NAMES},
        "deployments": {key: [(1, "succeeded")] for key in once},
        "offered": once,
        "ended": once,
        "closed by their devices": once,
        "installed": {name: [rollout.label, rollout.before] if is_rolled_back else [rollout.label] for name in NAMES},
        "reports answered but not written": {},
        "events that nobody reported": {},
        "open deployments anywhere": [],
        "notices": sorted(notices),
        "notices that were not sent": [],
        "notices without exactly one mail": 0,
        "violations of invariants": [],
    }


def found_facts(stack: Stack, rollout: Rollout) -> dict[str, Any]:
    """The same facts from the disks, the agents' journals, the mails and the database."""
    rows = stack.rows
    hosts = stack.hosts.values()
    states = {name: rows(f"SELECT state FROM {table} WHERE id = %s", rollout.keys[name]) for name, table in _TABLES}
    resolved = rows("SELECT resolved_by_event FROM incidents_incident WHERE id = %s", rollout.keys["incident"])
    reported = rows("SELECT name, attributes ->> 'version.billing' FROM cmdb_configurationitem ORDER BY id")
    outbox = rows("SELECT count(*) FROM notifications_outbox WHERE state <> 'withdrawn'")[0][0]
    missing, extra = _reports(stack, rollout)
    return {
        "rollout": rows("SELECT state, settled_at IS NOT NULL FROM releases_rollout WHERE id = %s", rollout.id),
        "tickets": {name: found[0][0] for name, found in states.items()},
        "resolved by": resolved[0][0],
        "waves": rows(
            "SELECT kind, number, size, state FROM releases_wave WHERE rollout_id = %s ORDER BY kind, number",
            rollout.id,
        ),
        "on the disks": {host.name: host.version() for host in hosts},
        "reported": dict(reported),
        "in the configuration database": _grouped(
            rows(
                "SELECT ci.name, v.label FROM cmdb_installedversion v JOIN cmdb_configurationitem ci ON ci.id = v.ci_id"
                " WHERE v.valid_to IS NULL ORDER BY v.id"
            )
        ),
        "deployments": _grouped(
            ((name, purpose), (attempt, state))
            for name, purpose, attempt, state in rows(
                f"SELECT ci.name, b.purpose, d.attempt, d.state FROM {_OF_ROLLOUT} WHERE w.rollout_id = %s",
                rollout.id,
            )
        ),
        "offered": _count_events(stack, rollout, "e.to_state = 'offered' AND e.from_state <> 'offered'"),
        "ended": _count_events(stack, rollout, "e.to_state = ANY(%s) AND e.from_state <> e.to_state", TERMINAL),
        "closed by their devices": _count_events(
            stack, rollout, "e.kind = 'report' AND e.execution = 'closed' AND NOT e.is_duplicate"
        ),
        "installed": {host.name: host.installations()[rollout.installed[host.name] :] for host in hosts},
        "reports answered but not written": missing,
        "events that nobody reported": extra,
        "open deployments anywhere": rows(
            "SELECT id, state FROM distribution_deployment WHERE NOT state = ANY(%s)", TERMINAL
        ),
        "notices": rows(
            "SELECT u.username, o.thread FROM notifications_outbox o JOIN accounts_user u ON u.id = o.recipient_id"
            " WHERE o.event LIKE %s ORDER BY u.username, o.thread",
            f"rollout:{rollout.id}:%",
        ),
        "notices that were not sent": rows(
            "SELECT id, state FROM notifications_outbox WHERE state NOT IN ('sent', 'withdrawn')"
        ),
        "notices without exactly one mail": outbox - len(list((stack.folder / "mail").glob("*.eml"))),
        "violations of invariants": stack.direct("check_invariants", journals=str(stack.folder / "fleet")),
    }


_TABLES = [
    ("release", "releases_release"),
    ("change", "changes_change"),
    ("problem", "problems_problem"),
    ("incident", "incidents_incident"),
]


def _grouped(pairs: Any) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _count_events(stack: Stack, rollout: Rollout, condition: str, *params: Any) -> dict[tuple[str, str], int]:
    """How many such events each deployment has, by CI and purpose."""
    query = f"""
        SELECT ci.name, b.purpose, count(*) FROM {_OF_ROLLOUT} JOIN distribution_deploymentevent e
        ON e.deployment_id = d.id WHERE w.rollout_id = %s AND {condition} GROUP BY d.id, ci.name, b.purpose
    """
    return {(name, purpose): number for name, purpose, number in stack.rows(query, rollout.id, *params)}


def _reports(stack: Stack, rollout: Rollout) -> tuple[dict[Any, int], dict[Any, int]]:
    """Reports that a device saw accepted and that have no event, and events without a report; repetitions aside."""
    query = f"""
        SELECT d.id, e.execution FROM {_OF_ROLLOUT} JOIN distribution_deploymentevent e ON e.deployment_id = d.id
        WHERE w.rollout_id = %s AND e.kind IN ('report', 'cancel_report') AND NOT e.is_duplicate
    """
    events = Counter(stack.rows(query, rollout.id))
    ours = {action for action, _execution in events}
    accepted: set[tuple[str, int, int, str]] = set()
    sent: set[tuple[str, int, int, str]] = set()
    for host in stack.hosts.values():
        for line in host.journal():
            if line["action"] is None or int(line["action"]) not in ours:
                continue
            report = (host.name, line["report"], int(line["action"]), line["body"]["status"]["execution"])
            sent.add(report)
            if line["status"] == 200:
                accepted.add(report)
    missing = Counter(report[2:] for report in accepted) - events
    extra = events - Counter(report[2:] for report in sent)
    return dict(missing), dict(extra)


def _notices(stack: Stack, rollout: Rollout, end: str, *, told_of_fix: bool = False) -> set[tuple[str, str]]:
    """Who must be told about the end, and where: owners unless their own incident tells them, and the tickets'.

    `told_of_fix`: who has read that the problem is resolved also reads that it is not.
    """
    owners = {(ci["owner"], ci["number"]) for name, ci in stack.cis.items() if name != rollout.incident_on}
    people = {"change": "author", "incident": stack.cis[rollout.incident_on]["owner"]}
    if end == "completed" or told_of_fix:
        people["problem"] = "problems"
    return owners | {(person, rollout.numbers[ticket]) for ticket, person in people.items()}
