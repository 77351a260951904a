"""Every failpoint of the code: which process is killed there, in which scenario, and what that stands for."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("failpoint_results.json")
APPS = (
    "itsm_portal", "releases", "changes", "problems", "incidents", "test_environments",
    "distribution", "cmdb", "software", "tickets", "notifications", "accounts",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """`scenario`: forward (a rollout to its end), back (a completed one is rolled back), cancel (one that is under way
    is rolled back), breach (too many fail); upload: an error instead of a kill.
    """

    name: str
    process: str
    scenario: str
    text: str


POINTS = [
    Point("tick.claimed", "worker", "forward", "the rollout's row is taken, nothing is done yet"),
    Point("tick.before_commit", "worker", "forward", "a step is done and not committed"),
    Point("tick.committed", "worker", "forward", "a step is committed, the next one not begun"),
    Point("freeze.written", "worker", "forward", "a chunk of targets is written, its mark is not"),
    Point("wave.opened", "worker", "forward", "the wave is open, its batch is not"),
    Point("verdict.stored", "worker", "forward", "a verdict is stored, what follows from it is not"),
    Point("breach.told", "worker", "breach", "the incident of a breach is open, the rollout does not stop yet"),
    Point("cascade.told", "worker", "forward", "a chunk of tickets is told, its mark is not written"),
    Point("cascade.marked", "worker", "forward", "the mark is written, not committed"),
    Point("rollback.queued", "worker", "back", "ways back are queued, not committed"),
    Point("rollback.listed", "worker", "back", "who is not back is listed, the rollback is not ended"),
    Point("offer.asked", "web", "forward", "an offer is asked for, nothing is written"),
    Point("offer.committed", "web", "forward", "an offer is committed, not answered"),
    Point("step.moved", "web or worker", "forward", "a step of deployments is written, not committed"),
    Point("report.decided", "web", "forward", "a report is decided, nothing is written"),
    Point("report.committed", "web", "forward", "a report is committed, not answered"),
    Point("attributes.before_commit", "web", "forward", "what a CI runs is decided or written, not committed"),
    Point("attributes.committed", "web", "forward", "what a CI runs is committed, not answered"),
    Point("cancel.decided", "web", "cancel", "the answer to a cancellation is decided, nothing is written"),
    Point("mail.claimed", "worker", "forward", "a mail is taken, not sent"),
    Point("mail.sent", "worker", "forward", "a mail is sent, not marked as sent"),
    Point("mail.marked", "worker", "forward", "a mail is marked, the next one not taken"),
    Point("upload.block", "upload", "upload", "the disk is full in the middle of an upload"),
]


def points_in_code() -> set[str]:
    """The names that the code passes to `failpoint`."""
    found: set[str] = set()
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoint":
                    found.add(ast.literal_eval(node.args[0]))
    return found


def table() -> str:
    """The points with the measured results, in Markdown."""
    results = json.loads(RESULTS.read_text())
    rows = [
        f"| `{p.name}` | {p.text} | {p.process} | {p.scenario} | {results.get(p.name, 'not measured')} |"
        for p in POINTS
    ]
    head = "| Point | The process ends when | Killed | Scenario | Moved again after |\n|---|---|---|---|---|"
    return "\n".join([head, *rows]) + "\n"
