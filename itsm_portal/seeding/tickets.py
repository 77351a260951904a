"""Tickets of the four processes with their timelines and links, in the order in which they were written.

Most are long over and a few per cent are open, most of these among the newest. A timeline has the creation, the last
change of state and, while somebody works on it, comments; the history has one row for each ticket, by its trigger.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from changes.models import Change, ChangeEntry
from incidents.models import Incident, IncidentEntry
from itsm_portal.seeding.copying import AT_ONCE, batches, copy_into, next_key
from itsm_portal.seeding.words import CAUSES, COMMENTS, DESCRIPTIONS, PLACES, PRODUCTS, RESOLUTIONS, SYMPTOMS
from itsm_portal.seeding.world import World
from notifications.models import Outbox
from problems.models import Problem, ProblemEntry
from releases.models import Release, ReleaseEntry
from tickets.models import Level
from tickets.numbers import format_number
from tickets.services import DEFAULT_MATRIX

# Of a thousand tickets.
SHARES: dict[Any, int] = {Incident: 800, Problem: 80, Change: 100, Release: 20}
# Of the newest fiftieth four fifths are open, of all others fewer than one in sixty.
NEWEST, OPEN_OF_NEWEST, OPEN_OF_OTHERS = 0.98, 0.8, 0.015
ENTRIES_OF_ONE_TICKET = 2
NOTICE_EVERY = 10
TICKET_FIELDS = (
    "id", "title", "description", "impact", "urgency", "priority", "activity", "requester_id", "created_by_id",
    "assignee_id", "team_id", "created_at", "updated_at", "state",
)  # fmt: skip
ENTRY_FIELDS = ("ticket_id", "kind", "is_public", "text", "from_state", "to_state", "author_id", "created_at")
# Path of each kind: state before → state; open ones with their weight.
OPEN: dict[Any, tuple[tuple[str, str, int], ...]] = {
    Incident: (("", "new", 2), ("new", "assigned", 3), ("assigned", "in_progress", 6), ("in_progress", "on_hold", 3)),
    Problem: (("", "new", 2), ("new", "assessed", 2), ("assessed", "root_cause_analysis", 4),
              ("root_cause_analysis", "fix_in_progress", 3)),
    Change: (("", "draft", 2), ("draft", "submitted", 2), ("submitted", "assessed", 2), ("assessed", "authorised", 3),
             ("authorised", "scheduled", 3)),
    Release: (("", "draft", 2), ("draft", "planned", 2), ("planned", "built", 2)),
}  # fmt: skip
OVER: dict[Any, tuple[tuple[str, str, int], ...]] = {
    Incident: (("resolved", "closed", 19), ("new", "cancelled", 1)),
    Problem: (("resolved", "closed", 1),),
    Change: (("reviewed", "closed", 12), ("draft", "cancelled", 1)),
    Release: (("completed", "closed", 12), ("planned", "cancelled", 1)),
}


@dataclass
class Written:
    """The keys of what was written: of each kind all of them, and those that later ones refer to."""

    keys: dict[Any, range] = field(default_factory=dict)
    open: dict[Any, list[int]] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)


def make_tickets(world: World, number: int, say: Callable[[str], None]) -> Written:
    """Writes `number` tickets with twice as many entries of their timelines, and the links between them."""
    written = Written()
    for model, share in SHARES.items():
        count = number * share // 1000
        first = next_key(model)
        written.keys[model] = range(first, first + count)
        written.open[model] = []
        for keys in batches(written.keys[model], AT_ONCE):
            _write(world, model, keys, written)
        say(f"{count} {model._meta.verbose_name_plural}")
    _link(world, written)
    return written


def _write(world: World, model: Any, keys: Sequence[int], written: Written) -> None:
    """One batch: the tickets, then their entries and notices, all in the order of time."""
    more, entry_model = _MORE[model], _ENTRIES[model]
    rows: list[tuple[Any, ...]] = []
    entries: list[tuple[Any, ...]] = []
    notices: list[tuple[Any, ...]] = []
    whole, random = written.keys[model], world.random
    budget = ENTRIES_OF_ONE_TICKET * len(keys)
    for key in keys:
        share = (key - whole.start + random.random()) / len(whole)
        created = world.moment(share)
        is_open = random.random() < (OPEN_OF_NEWEST if share > NEWEST else OPEN_OF_OTHERS)
        before, state = _pick(random, (OPEN if is_open else OVER)[model])
        updated = _later(world, created, is_open)
        impact, urgency = random.choices(Level.values, (1, 5, 6), k=2)
        priority = DEFAULT_MATRIX[impact, urgency].value
        requester = random.choice(world.requesters)
        agent = random.choice(world.agents) if before else None
        team = world.teams[key % len(world.teams)] if before else None
        title, description = _texts(world, model, random)
        ticket = (
            key, title, description, impact, urgency, priority, "repair", requester, requester, agent,
            team, created, updated, state,
        )  # fmt: skip
        rows.append(ticket + more[1](world, key, state, created, updated, written))
        if is_open:
            written.open[model].append(key)
        entries.append((key, "state", "t", "Created.", "", _first(model), requester, created))
        if before:
            entries.append((key, "state", "t", "", before, state, agent, updated))
        if key % NOTICE_EVERY == 0:
            notices.append(_notice(model, key, title, requester, created))
    entries += _comments(world, written.open[model], keys, budget - len(entries))
    copy_into(model, (*TICKET_FIELDS, *more[0]), rows)
    copy_into(entry_model, ENTRY_FIELDS, entries)
    copy_into(Outbox, _NOTICE_FIELDS, notices)


def _comments(world: World, open_keys: list[int], keys: Sequence[int], number: int) -> Iterable[tuple[Any, ...]]:
    """Comments of the last day on tickets of this batch that are still open."""
    random = world.random
    mine = [key for key in open_keys if key >= keys[0]]
    for _ in range(number if mine else 0):
        key = random.choice(mine)
        text = random.choice(COMMENTS).format(code=random.randrange(1000, 10_000))
        is_public = random.random() < 0.6
        author, at = random.choice(world.agents), world.now - timedelta(seconds=random.randrange(86_400))
        yield key, "comment" if is_public else "note", "t" if is_public else "f", text, "", "", author, at


def _pick(random: Any, paths: tuple[tuple[str, str, int], ...]) -> tuple[str, str]:
    if len(paths) == 1:
        return paths[0][:2]
    found: tuple[str, str, int] = random.choices(paths, [weight for _, _, weight in paths])[0]
    return found[:2]


def _later(world: World, created: datetime, is_open: bool) -> datetime:
    """When it was touched last: open ones within their life, others within days."""
    if is_open:
        return created + (world.now - created) * world.random.random()
    return min(world.now, created + timedelta(seconds=world.random.expovariate(1 / 200_000)))


def _texts(world: World, model: Any, random: Any) -> tuple[str, str]:
    code = random.randrange(1000, 10_000)
    product, place = random.choice(PRODUCTS), random.choice(PLACES)
    if model is Incident:
        title = f"{product} {random.choice(SYMPTOMS).format(code=code)}, {place}"
    elif model is Problem:
        title = f"{product} {random.choice(CAUSES)} (E{code})"
    else:
        title = f"{product} 1.{code % 40}{'' if model is Change else ' release'}: no longer {random.choice(CAUSES)}"
    return title, random.choice(DESCRIPTIONS).format(code=code)


def _first(model: Any) -> str:
    return OPEN[model][0][1]


# What each process has besides: the fields, and their values.
def _of_incident(world: World, key: int, state: str, created: Any, updated: Any, written: Written) -> tuple[Any, ...]:
    random = world.random
    reason = random.choice(("caller", "problem", "problem", "vendor")) if state == "on_hold" else ""
    if reason == "problem":
        written.held.append(key)
    is_over = state == "closed"
    ci = random.choice(world.cis) if world.cis and random.random() < 0.8 else None
    is_major = "t" if random.random() < 0.001 else "f"
    return ci, is_major, reason, random.choice(RESOLUTIONS) if is_over else "", updated if is_over else None


def _of_problem(world: World, key: int, state: str, created: Any, updated: Any, written: Written) -> tuple[Any, ...]:
    is_known = state in {"fix_in_progress", "closed"}
    cause = "The queue is read **twice**." if is_known else ""
    code = world.random.choice(("fix_applied", "risk_accepted", "duplicate")) if state == "closed" else ""
    return cause, "Restart the service in the evening." if is_known else "", "t" if is_known else "f", code


def _of_change(world: World, key: int, state: str, created: Any, updated: Any, written: Written) -> tuple[Any, ...]:
    random = world.random
    start = end = None
    if state in {"scheduled", "closed"}:
        start = updated + timedelta(days=random.random() * 14 if state == "scheduled" else -1)
        end = start + timedelta(hours=random.randrange(2, 48))
    code = random.choice(("successful", "successful", "with_issues", "backed_out")) if state == "closed" else ""
    kind = random.choices(("normal", "standard", "emergency"), (8, 3, 1))[0]
    risk = random.choice(Level.values)
    return kind, risk, "Done before.", "Roll it out in waves.", "On a copy.", "Roll back.", start, end, code


def _of_release(world: World, key: int, state: str, created: Any, updated: Any, written: Written) -> tuple[Any, ...]:
    return (world.random.choice(("major", "minor", "minor")),)


_MORE: dict[Any, tuple[tuple[str, ...], Any]] = {
    Incident: (("ci_id", "is_major", "hold_reason", "resolution", "resolved_at"), _of_incident),
    Problem: (("root_cause", "workaround", "is_known_error", "close_code"), _of_problem),
    Change: (
        (
            "change_type", "risk", "risk_reason", "implementation_plan", "test_plan", "backout_plan", "planned_start",
            "planned_end", "close_code",
        ),
        _of_change,
    ),
    Release: (("release_type",), _of_release),
}  # fmt: skip
_ENTRIES: dict[Any, Any] = {Incident: IncidentEntry, Problem: ProblemEntry, Change: ChangeEntry, Release: ReleaseEntry}
_NOTICE_FIELDS = (
    "event", "recipient_id", "thread", "subject", "text", "path", "state", "attempts", "next_attempt_at", "created_at",
    "sent_at", "read_at", "kind",
)  # fmt: skip


def _notice(model: Any, key: int, title: str, recipient: int, at: datetime) -> tuple[Any, ...]:
    number = format_number(model.PREFIX, key)
    name = model._meta.model_name
    path = f"/{name}s/{number}/"
    subject = f"reported: {title}"
    return (
        f"{name}:{key}:seeded",
        recipient,
        number,
        subject,
        f"{number} {title}",
        path,
        "sent",
        1,
        at,
        at,
        at,
        at,
        "progress",
    )


def _link(world: World, written: Written) -> None:
    """Incidents → problems → changes → releases, each to ones of its time; what waits for a problem has an open one."""
    random = world.random
    incidents, problems, changes, releases = (
        written.keys[model] for model in (Incident, Problem, Change, Release)
    )  # fmt: skip
    held = {key: random.choice(written.open[Problem]) for key in written.held if written.open[Problem]}
    pairs = {(problem, incident) for incident, problem in held.items()}
    for key in problems if incidents else ():
        near = incidents.start + (key - problems.start) * len(incidents) // len(problems)
        pairs |= {(key, min(incidents.stop - 1, near + n)) for n in range(random.randrange(0, 4))}
    links = Problem.incidents.through
    pairs = {(problem, incident) for problem, incident in pairs if held.get(incident, problem) == problem}
    copy_into(links, ("problem_id", "incident_id"), sorted(pairs))
    of_time = ((key, problems.start + (key - changes.start) * len(problems) // len(changes)) for key in changes)
    copy_into(Change.problems.through, ("change_id", "problem_id"), of_time if problems else ())
    if changes:
        each = len(changes) / max(1, len(releases))
        packed = (
            (key, changes.start + int((key - releases.start + n / 4) * each)) for key in releases for n in range(4)
        )
        copy_into(Release.changes.through, ("release_id", "change_id"), sorted(set(packed)))
