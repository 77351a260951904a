"""The rollout engine: one tick looks at every unsettled rollout and moves each one step, in its own transaction.

preparing: freezes the targets, in chunks, as one deployment each · running: opens waves, gives verdicts, goes on,
pauses, rolls back or completes · paused: verdicts only · rolling_back: brings CIs back, waits for them · aborting:
waits until nothing is under way · ended: tells the tickets, waits for stragglers, then settles.
The steps are in `freezing`, `running` (verdicts: `judging`), `going_back` and `ending`.
A step may be repeated, interrupted or run by several at once: rows decide, not this process. It moves some thousand
deployments at most and is a transaction of its own; what is left, the next step finds.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Case, When

from accounts.language import portal_language
from failpoints import failpoint
from releases import ending, freezing, going_back, running
from releases.models import Rollout
from releases.services.schedule import start_ordered
from releases.services.testing import advance_test_runs
from releases.services.unsigned import tell_unsigned
from tickets.exceptions import DomainError

logger = logging.getLogger(__name__)
State = Rollout.State
# After so long a tick begins no further step. One takes 0.15 s at most, so a tick is over within 0.2 s.
BUDGET_SECONDS = 0.05
# The rollout at which the last tick of this process ran out of time; a hint, no more.
_ran_out_at: int | None = None


def run_ticks(*, now: datetime, seconds: float = 1.0) -> int:
    """Ticks until nothing moves any more or the time is over: a large fleet takes many. How many objects moved."""
    deadline = time.monotonic() + seconds
    moved = 0
    while more := advance_rollouts(now=now):
        moved += more
        if time.monotonic() >= deadline:
            break
    return moved


@portal_language()
def advance_rollouts(*, now: datetime, budget_seconds: float = BUDGET_SECONDS) -> int:
    """One tick: test runs and every unsettled rollout. Stops after the budget; the next tick goes on.

    Returns how many objects moved. A rollout that somebody else holds just now is left to him. After a tick that ran
    out of time this process begins with the rollout behind the last one, so that large ones starve nobody.
    """
    global _ran_out_at
    deadline = time.monotonic() + budget_seconds
    moved = advance_test_runs(now=now) + start_ordered(now=now) + tell_unsigned(now=now)
    # Those that only wait for stragglers come last, so that they cannot use up the time of the others.
    has_ended = Case(When(state__in=Rollout.ACTIVE, then=0), default=1)
    unsettled = Rollout.objects.filter(settled_at__isnull=True).order_by(has_ended, "updated_at", "pk")
    keys = list(unsettled.values_list("pk", flat=True))
    first = keys.index(_ran_out_at) + 1 if _ran_out_at in keys else 0
    _ran_out_at = None
    for key in keys[first:] + keys[:first]:
        while _advance_one(key, now=now):
            failpoint("tick.committed")
            moved += 1
            if time.monotonic() >= deadline:
                break
        if time.monotonic() >= deadline:
            _ran_out_at = key
            break
    return moved


def _advance_one(key: int, *, now: datetime) -> bool:
    """One step of one rollout; True when it did something, so that another step may follow at once."""
    try:
        with transaction.atomic():
            rollout = (
                Rollout.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("release")
                .filter(pk=key, settled_at__isnull=True)
                .first()
            )
            if rollout is None:
                return False
            failpoint("tick.claimed")
            has_moved = advance(rollout, now=now)
            failpoint("tick.before_commit")
            return has_moved
    except DomainError as error:
        # A refusal means that somebody moved a ticket of it in the same moment: the next tick sees the new state.
        logger.warning("rollout %s: %s", key, error)
        return False
    except (OperationalError, InterfaceError):
        raise  # the database itself: nobody else can go on, either
    except Exception:
        # One rollout that cannot go on must not hold up the others.
        logger.exception("rollout %s could not be advanced", key)
        return False


def advance(rollout: Rollout, *, now: datetime) -> bool:
    """One step, by state. True when it wrote something."""
    step: Callable[[Rollout, datetime], bool] = {
        State.PREPARING: freezing.freeze,
        State.RUNNING: running.run,
        State.PAUSED: running.watch,
        State.ROLLING_BACK: going_back.roll_back,
        State.ABORTING: ending.finish_abort,
    }.get(State(rollout.state), ending.settle)
    return step(rollout, now)
