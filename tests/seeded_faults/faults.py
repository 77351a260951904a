"""Faults that are planted on purpose, each with the test that has to find it.

A fault is what somebody might really write: a check that was left out, a number that was kept too long, an order of two
lines. It is planted by replacing a function (`plants`), or by a statement, in a test process of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.seeded_faults import plants


@dataclass(frozen=True)
class Fault:
    """What is wrong (`text`), how it is planted, and the test that must fail then."""

    name: str
    text: str
    finder: str
    plant: Callable[[plants.Patch], None] | None = None
    statement: str = ""


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
        plants.acknowledge_before_commit,
    ),
    Fault(
        "cached count",
        "Waves are judged by counts that were kept from an earlier wave.",
        "tests/releases/test_any_sequence.py::test_some_sequences",
        plants.cached_count,
    ),
    Fault(
        "ignore paused",
        "A pause closes no batch: devices go on getting offers.",
        "tests/releases/test_a_rollout_stops.py::test_a_pause_lets_what_is_under_way_end_and_offers_nothing_new",
        plants.pause_closes_nothing,
    ),
    Fault(
        "ignore paused, in any sequence",
        "The same, found without a test written for it.",
        "tests/releases/test_any_sequence.py::test_further_sequences",
        plants.pause_closes_nothing,
    ),
    Fault(
        "offer without compare-and-set",
        "An offer is written whatever the state is meanwhile.",
        "tests/distribution/test_devices_in_parallel.py::test_of_two_batches_that_want_one_ci_one_gets_it",
        plants.offer_without_compare_and_set,
    ),
    Fault(
        "excluded is success",
        "Excluded CIs are counted as confirmed ones.",
        "tests/releases/test_conditions.py::test_every_ci_is_counted_once",
        plants.excluded_is_success,
    ),
    Fault(
        "no soak",
        "The problem-free period is always over.",
        "tests/releases/test_a_rollout_runs.py::test_big_bang_goes_to_everybody_at_once_and_completes_after_the_soak",
        plants.no_soak,
    ),
    Fault(
        "shrinking denominator",
        "Failed CIs are dropped from the wave's size.",
        "tests/releases/test_conditions.py::test_thresholds_are_exact_percentages_of_the_frozen_size",
        plants.denominator_shrinks,
    ),
    Fault(
        "double cascade",
        "Notices of the same event have names of their own, so that a repeated step tells again.",
        "tests/releases/test_cascade_interrupted.py::"
        "test_many_tickets_are_told_in_chunks_and_a_crash_between_them_loses_and_repeats_nothing",
        plants.double_cascade,
    ),
    Fault(
        "any lease",
        "A push run that lost its lease goes on writing.",
        "tests/push/test_lost_runs.py::test_a_run_that_lost_its_lease_gets_no_leave_and_writes_nothing",
        plants.any_lease,
    ),
    Fault(
        "restart what failed",
        "A retry sets the failed deployment back to waiting instead of making a new attempt.",
        "tests/releases/test_a_rollout_runs.py::test_retry_is_a_new_attempt_of_the_failed_ones_only",
        plants.restart_what_failed,
    ),
    Fault(
        "success without proof",
        "A device's “success” counts before it says what it runs.",
        "tests/releases/test_a_rollout_runs.py::test_only_proven_success_counts",
        plants.success_without_proof,
    ),
    Fault(
        "rollback forgets one",
        "One CI is left out of the way back.",
        "tests/releases/test_going_back.py::test_everything_goes_back_after_completion",
        plants.rollback_forgets_one,
    ),
    Fault(
        "sent before it is sent",
        "A mail is marked as sent when a worker takes it.",
        "tests/notifications/test_send_mails.py::test_a_server_that_is_down_delays_mails_and_loses_none",
        plants.sent_before_it_is_sent,
    ),
    Fault(
        "repetitions unmarked",
        "A device's repeated report is an event like the first one.",
        "tests/distribution/test_devices_in_parallel.py::test_identical_progress_is_all_taken_and_all_but_one_marked",
        plants.repetitions_unmarked,
    ),
    Fault(
        "late reports move it back",
        "A report that comes late takes the deployment back to an earlier state.",
        "tests/distribution/test_deploy_to_a_device.py::test_reports_out_of_order_never_move_it_back",
        plants.reports_move_it_back,
    ),
    Fault(
        "the agent's clock",
        "The time that a report names is taken for the time.",
        "tests/distribution/test_ddi_ten_rules.py::test_rule_10_odd_bodies_are_taken_and_the_server_clock_counts",
        plants.clock_of_the_agent,
    ),
    Fault(
        "resolved without the version",
        "The cascade resolves incidents of CIs that do not run the version.",
        "tests/releases/test_cascade.py::test_a_ci_that_failed_keeps_its_incident_on_hold_and_names_the_ci",
        plants.lost_incident_link,
    ),
    Fault(
        "freezes hold nobody",
        "A rollout that runs into a freeze goes on.",
        "tests/releases/test_windows.py::"
        "test_a_rollout_that_runs_into_a_freeze_lets_in_flight_cis_finish_and_goes_on_by_itself",
        plants.freezes_hold_nobody,
    ),
    Fault(
        "a failing rollback goes on",
        "A rollback that fails on too many CIs is not stopped.",
        "tests/releases/test_ways_back.py::test_a_rollback_that_fails_on_too_many_stops_and_calls_a_person",
        plants.failing_rollback_goes_on,
    ),
    Fault(
        "impossible goes back",
        "The engine rolls back by itself what has no way back.",
        "tests/releases/test_ways_back.py::test_a_breach_only_stops_what_has_no_way_back",
        plants.impossible_goes_back,
    ),
    Fault(
        "inconclusive is a pass",
        "A probe that could not be asked counts as one that answered well.",
        "tests/releases/test_probes.py::test_what_the_portal_cannot_ask_pauses_it_and_asks_a_person",
        plants.inconclusive_is_pass,
    ),
]
