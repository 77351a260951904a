"""How each fault is planted: by replacing a function with one that somebody might really write."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

Patch = pytest.MonkeyPatch


def acknowledge_before_commit(patch: Patch) -> None:
    from django.db import transaction

    from distribution import device

    take = device.report

    def report(*args: Any, **values: Any) -> Any:
        with transaction.atomic():
            outcome = take(*args, **values)
            transaction.set_rollback(True)  # the process dies between the answer and the commit
        return outcome

    patch.setattr(device, "report", report)


def cached_count(patch: Patch) -> None:
    from distribution import services

    count, kept = services.counts, {}

    def counts(batch_ids: Any) -> Any:
        found = count(batch_ids)
        # Kept by the size of the wave, not by the wave.
        return {
            batch: kept.setdefault(numbers.total, numbers) if numbers.succeeded else kept.get(numbers.total, numbers)
            for batch, numbers in found.items()
        }

    patch.setattr(services, "counts", counts)


def pause_closes_nothing(patch: Patch) -> None:
    from distribution import services

    patch.setattr(services, "close_batch", lambda batch: False)


def offer_without_compare_and_set(patch: Patch) -> None:
    from distribution import device
    from distribution.models import Deployment, DeploymentEvent

    def offer(deployment: Any, ci: Any, *, now: datetime) -> bool:
        event = DeploymentEvent(deployment=deployment, kind="offered", from_state=deployment.state, to_state="offered")
        Deployment.objects.filter(pk=deployment.pk).update(state="offered", offered_at=now, moved_at=now)
        event.at = now
        event.save()
        deployment.state, deployment.offered_at = "offered", now
        return True

    patch.setattr(device, "offer", offer)


def excluded_is_success(patch: Patch) -> None:
    from releases import conditions

    fold = conditions.numbers_of

    def numbers_of(*args: Any, **values: Any) -> Any:
        numbers = fold(*args, **values)
        return replace(numbers, confirmed=numbers.confirmed + numbers.excluded, excluded=0)

    patch.setattr(conditions, "numbers_of", numbers_of)


def no_soak(patch: Patch) -> None:
    from releases import conditions

    patch.setattr(conditions, "is_soak_over", lambda *_args, **_values: True)


def denominator_shrinks(patch: Patch) -> None:
    from releases import conditions

    decide = conditions.is_success_reached

    def is_success_reached(numbers: Any, policy: Any) -> bool:
        return decide(replace(numbers, size=max(0, numbers.size - numbers.failed)), policy)

    patch.setattr(conditions, "is_success_reached", is_success_reached)


def double_cascade(patch: Patch) -> None:
    from releases.services import notices

    number = itertools.count()
    write = notices.notify

    def notify(*, event: str, **values: Any) -> bool:
        return write(event=f"{event}:{next(number)}", **values)

    patch.setattr(notices, "notify", notify)


def any_lease(patch: Patch) -> None:
    from contextlib import contextmanager

    from distribution.channels.ansible import events
    from tickets.clock import database_now

    @contextmanager
    def held(_run: Any) -> Any:
        yield database_now()

    patch.setattr(events, "held", held)


def restart_what_failed(patch: Patch) -> None:
    from distribution import services
    from distribution.models import Deployment, DeploymentEvent

    def retry_failed(batch: Any, *, now: datetime, ci_ids: Any = None) -> int:
        failed = list(Deployment.objects.filter(batch=batch, state="failed"))
        for deployment in failed:
            Deployment.objects.filter(pk=deployment.pk).update(
                state="queued", finished_at=None, closed_at=None, offered_at=None
            )
            DeploymentEvent.objects.create(
                deployment=deployment, kind="engine", from_state="failed", to_state="queued", at=now
            )
        return len(failed)

    patch.setattr(services, "retry_failed", retry_failed)


def success_without_proof(patch: Patch) -> None:
    from distribution import device

    def closing_state(_ci: Any, *, is_failure: bool, is_download_only: bool) -> str:
        return "failed" if is_failure else "succeeded"

    patch.setattr(device, "_closing_state", closing_state)


def rollback_forgets_one(patch: Patch) -> None:
    from distribution import services

    queue = services.queue_rollback

    def queue_rollback(batch: Any, *, forward_batch_ids: Any, left_out: Any = None, **values: Any) -> int:
        from distribution.models import Deployment

        cis = Deployment.objects.filter(batch__in=forward_batch_ids).values_list("ci", flat=True)
        forgotten = max(cis, default=0)

        def out(chunk: list[int]) -> set[int]:
            return {forgotten, *(left_out(chunk) if left_out is not None else ())}

        return queue(batch, forward_batch_ids=forward_batch_ids, left_out=out, **values)

    patch.setattr(services, "queue_rollback", queue_rollback)


def sent_before_it_is_sent(patch: Patch) -> None:
    from notifications import services
    from notifications.models import Outbox

    claim = services._claim

    def claim_and_mark(now: datetime) -> Any:
        row = claim(now)
        if row is not None:
            Outbox.objects.filter(pk=row.pk).update(state="sent", sent_at=now, lease=None)
        return row

    patch.setattr(services, "_claim", claim_and_mark)


def repetitions_unmarked(patch: Patch) -> None:
    from distribution import device

    write = device.record_step
    patch.setattr(device, "record_step", lambda *args, **values: write(*args, **{**values, "fingerprint": ""}))


def reports_move_it_back(patch: Patch) -> None:
    from distribution import device

    patch.setattr(device, "_advance", lambda _deployment, to_state, _values: to_state)


def clock_of_the_agent(patch: Patch) -> None:
    from distribution.channels.ddi import views

    read = views.now_of

    def now_of(request: Any) -> datetime:
        try:
            return datetime.fromtimestamp(json.loads(request.body)["timestamp"] / 1000, UTC)
        except (ValueError, KeyError, TypeError):
            return read(request)

    patch.setattr(views, "now_of", now_of)


def lost_incident_link(patch: Patch) -> None:
    from releases.services import cascade

    patch.setattr(cascade, "not_running", lambda _rollout, _cis: set())


def freezes_hold_nobody(patch: Patch) -> None:
    from releases import running

    patch.setattr(running, "hold", lambda _rollout, _now: False)


def failing_rollback_goes_on(patch: Patch) -> None:
    from releases import going_back

    patch.setattr(going_back, "_stop", lambda _rollout, _wave, _now: False)


def impossible_goes_back(patch: Patch) -> None:
    from releases import judging

    patch.setattr(judging, "has_impossible", lambda _rollout: False)


def inconclusive_is_pass(patch: Patch) -> None:
    from releases import gates

    decide = gates.verdict_of
    patch.setattr(
        gates,
        "verdict_of",
        lambda outcomes, probe: decide([o.replace("inconclusive", "pass") for o in outcomes], probe),
    )
