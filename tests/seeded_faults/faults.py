"""Faults that are planted on purpose, each with the test that has to find it.

A fault is what somebody might really write: a check that was left out, a number that was kept too long, an order of two
lines. It is planted by replacing a function, or by a statement, in a test process of its own.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """What is wrong (`text`), how it is planted, and the test that must fail then."""

    name: str
    text: str
    finder: str
    plant: Callable[[Patch], None] | None = None
    statement: str = ""


def _acknowledge_before_commit(patch: Patch) -> None:
    from django.db import transaction

    from distribution import device

    take = device.report

    def report(*args: Any, **values: Any) -> Any:
        with transaction.atomic():
            outcome = take(*args, **values)
            transaction.set_rollback(True)  # the process dies between the answer and the commit
        return outcome

    patch.setattr(device, "report", report)


def _cached_count(patch: Patch) -> None:
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


def _pause_closes_nothing(patch: Patch) -> None:
    from distribution import services

    patch.setattr(services, "close_batch", lambda batch: False)


def _offer_without_compare_and_set(patch: Patch) -> None:
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


def _excluded_is_success(patch: Patch) -> None:
    from releases import conditions

    fold = conditions.numbers_of

    def numbers_of(*args: Any, **values: Any) -> Any:
        numbers = fold(*args, **values)
        return replace(numbers, confirmed=numbers.confirmed + numbers.excluded, excluded=0)

    patch.setattr(conditions, "numbers_of", numbers_of)


def _no_soak(patch: Patch) -> None:
    from releases import conditions

    patch.setattr(conditions, "is_soak_over", lambda *_args, **_values: True)


def _denominator_shrinks(patch: Patch) -> None:
    from releases import conditions

    decide = conditions.is_success_reached

    def is_success_reached(numbers: Any, policy: Any) -> bool:
        return decide(replace(numbers, size=max(0, numbers.size - numbers.failed)), policy)

    patch.setattr(conditions, "is_success_reached", is_success_reached)


def _double_cascade(patch: Patch) -> None:
    from releases.services import notices

    number = itertools.count()
    write = notices.notify

    def notify(*, event: str, **values: Any) -> bool:
        return write(event=f"{event}:{next(number)}", **values)

    patch.setattr(notices, "notify", notify)


def _any_lease(patch: Patch) -> None:
    from contextlib import contextmanager

    from distribution.channels.ansible import events
    from tickets.clock import database_now

    @contextmanager
    def held(_run: Any) -> Any:
        yield database_now()

    patch.setattr(events, "held", held)


def _restart_what_failed(patch: Patch) -> None:
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


def _success_without_proof(patch: Patch) -> None:
    from distribution import device

    def closing_state(_ci: Any, *, is_failure: bool, is_download_only: bool) -> str:
        return "failed" if is_failure else "succeeded"

    patch.setattr(device, "_closing_state", closing_state)


def _rollback_forgets_one(patch: Patch) -> None:
    from distribution import services

    queue = services.queue_rollback

    def queue_rollback(batch: Any, *, forward_batch_ids: Any, ci_ids: Any = None, now: datetime) -> int:
        from distribution.models import Deployment

        cis = sorted(Deployment.objects.filter(batch__in=forward_batch_ids).values_list("ci", flat=True))[:-1]
        if ci_ids is not None:
            cis = [ci for ci in cis if ci in set(ci_ids)]
        return queue(batch, forward_batch_ids=forward_batch_ids, ci_ids=cis, now=now)

    patch.setattr(services, "queue_rollback", queue_rollback)


def _sent_before_it_is_sent(patch: Patch) -> None:
    from notifications import services
    from notifications.models import Outbox

    claim = services._claim

    def claim_and_mark(now: datetime) -> Any:
        row = claim(now)
        if row is not None:
            Outbox.objects.filter(pk=row.pk).update(state="sent", sent_at=now, lease=None)
        return row

    patch.setattr(services, "_claim", claim_and_mark)


def _repetitions_unmarked(patch: Patch) -> None:
    from distribution import device

    write = device.record_step
    patch.setattr(device, "record_step", lambda *args, **values: write(*args, **{**values, "fingerprint": ""}))


def _reports_move_it_back(patch: Patch) -> None:
    from distribution import device

    patch.setattr(device, "_advance", lambda _deployment, to_state, _values: to_state)


def _clock_of_the_agent(patch: Patch) -> None:
    from distribution.channels.ddi import views

    read = views.now_of

    def now_of(request: Any) -> datetime:
        try:
            return datetime.fromtimestamp(json.loads(request.body)["timestamp"] / 1000, UTC)
        except (ValueError, KeyError, TypeError):
            return read(request)

    patch.setattr(views, "now_of", now_of)


def _lost_incident_link(patch: Patch) -> None:
    from releases.services import cascade

    patch.setattr(cascade, "not_running", lambda _rollout, _cis: set())


def _freezes_hold_nobody(patch: Patch) -> None:
    from releases import running

    patch.setattr(running, "hold", lambda _rollout, _now: False)


def _failing_rollback_goes_on(patch: Patch) -> None:
    from releases import going_back

    patch.setattr(going_back, "_stop", lambda _rollout, _wave, _now: False)


def _impossible_goes_back(patch: Patch) -> None:
    from releases import judging

    patch.setattr(judging, "has_impossible", lambda _rollout: False)


def _inconclusive_is_pass(patch: Patch) -> None:
    from releases import gates

    decide = gates.verdict_of
    patch.setattr(
        gates,
        "verdict_of",
        lambda outcomes, probe: decide([o.replace("inconclusive", "pass") for o in outcomes], probe),
    )


FAULTS = [
    Fault(
        "no unique index",
        "The unique index “one live deployment per CI” was dropped.",
        "tests/releases/test_invariants.py::test_an_empty_database_is_sound",
        statement="DROP INDEX distribution_one_live_per_ci",
    ),
    Fault(
        "acknowledge before commit",
        "A report is answered with 200 and its transaction is lost.",
        "tests/releases/test_any_sequence.py::test_some_sequences",
        _acknowledge_before_commit,
    ),
    Fault(
        "cached count",
        "Waves are judged by counts that were kept from an earlier wave.",
        "tests/releases/test_any_sequence.py::test_some_sequences",
        _cached_count,
    ),
    Fault(
        "ignore paused",
        "A pause closes no batch: devices go on getting offers.",
        "tests/releases/test_a_rollout_stops.py::test_a_pause_lets_what_is_under_way_end_and_offers_nothing_new",
        _pause_closes_nothing,
    ),
    Fault(
        "ignore paused, in any sequence",
        "The same, found without a test written for it.",
        "tests/releases/test_any_sequence.py::test_some_sequences",
        _pause_closes_nothing,
    ),
    Fault(
        "offer without compare-and-set",
        "An offer is written whatever the state is meanwhile.",
        "tests/distribution/test_devices_in_parallel.py::test_of_two_batches_that_want_one_ci_one_gets_it",
        _offer_without_compare_and_set,
    ),
    Fault(
        "excluded is success",
        "Excluded CIs are counted as confirmed ones.",
        "tests/releases/test_conditions.py::test_every_ci_is_counted_once",
        _excluded_is_success,
    ),
    Fault(
        "no soak",
        "The problem-free period is always over.",
        "tests/releases/test_a_rollout_runs.py::test_big_bang_goes_to_everybody_at_once_and_completes_after_the_soak",
        _no_soak,
    ),
    Fault(
        "shrinking denominator",
        "Failed CIs are dropped from the wave's size.",
        "tests/releases/test_conditions.py::test_thresholds_are_exact_percentages_of_the_frozen_size",
        _denominator_shrinks,
    ),
    Fault(
        "double cascade",
        "Notices of the same event have names of their own, so that a repeated step tells again.",
        "tests/releases/test_cascade_interrupted.py::"
        "test_many_tickets_are_told_in_chunks_and_a_crash_between_them_loses_and_repeats_nothing",
        _double_cascade,
    ),
    Fault(
        "any lease",
        "A push run that lost its lease goes on writing.",
        "tests/push/test_lost_runs.py::test_a_run_that_lost_its_lease_gets_no_leave_and_writes_nothing",
        _any_lease,
    ),
    Fault(
        "restart what failed",
        "A retry sets the failed deployment back to waiting instead of making a new attempt.",
        "tests/releases/test_a_rollout_runs.py::test_retry_is_a_new_attempt_of_the_failed_ones_only",
        _restart_what_failed,
    ),
    Fault(
        "success without proof",
        "A device's “success” counts before it says what it runs.",
        "tests/releases/test_a_rollout_runs.py::test_only_proven_success_counts",
        _success_without_proof,
    ),
    Fault(
        "success without proof, in any sequence",
        "The same, found without a test written for it.",
        "tests/releases/test_any_sequence.py::test_some_sequences",
        _success_without_proof,
    ),
    Fault(
        "rollback forgets one",
        "One CI is left out of the way back.",
        "tests/releases/test_any_sequence.py::test_some_sequences",
        _rollback_forgets_one,
    ),
    Fault(
        "sent before it is sent",
        "A mail is marked as sent when a worker takes it.",
        "tests/notifications/test_send_mails.py::test_a_server_that_is_down_delays_mails_and_loses_none",
        _sent_before_it_is_sent,
    ),
    Fault(
        "repetitions unmarked",
        "A device's repeated report is an event like the first one.",
        "tests/distribution/test_devices_in_parallel.py::test_identical_progress_is_all_taken_and_all_but_one_marked",
        _repetitions_unmarked,
    ),
    Fault(
        "late reports move it back",
        "A report that comes late takes the deployment back to an earlier state.",
        "tests/distribution/test_deploy_to_a_device.py::test_reports_out_of_order_never_move_it_back",
        _reports_move_it_back,
    ),
    Fault(
        "the agent's clock",
        "The time that a report names is taken for the time.",
        "tests/distribution/test_ddi_ten_rules.py::test_rule_10_odd_bodies_are_taken_and_the_server_clock_counts",
        _clock_of_the_agent,
    ),
    Fault(
        "resolved without the version",
        "The cascade resolves incidents of CIs that do not run the version.",
        "tests/releases/test_cascade.py::test_a_ci_that_failed_keeps_its_incident_on_hold_and_names_the_ci",
        _lost_incident_link,
    ),
    Fault(
        "freezes hold nobody",
        "A rollout that runs into a freeze goes on.",
        "tests/releases/test_windows.py::"
        "test_a_rollout_that_runs_into_a_freeze_lets_in_flight_cis_finish_and_goes_on_by_itself",
        _freezes_hold_nobody,
    ),
    Fault(
        "a failing rollback goes on",
        "A rollback that fails on too many CIs is not stopped.",
        "tests/releases/test_ways_back.py::test_a_rollback_that_fails_on_too_many_stops_and_calls_a_person",
        _failing_rollback_goes_on,
    ),
    Fault(
        "impossible goes back",
        "The engine rolls back by itself what has no way back.",
        "tests/releases/test_ways_back.py::test_a_breach_only_stops_what_has_no_way_back",
        _impossible_goes_back,
    ),
    Fault(
        "inconclusive is a pass",
        "A probe that could not be asked counts as one that answered well.",
        "tests/releases/test_probes.py::test_what_the_portal_cannot_ask_pauses_it_and_asks_a_person",
        _inconclusive_is_pass,
    ),
]
