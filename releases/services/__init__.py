"""The verbs of release management, one function each; split by topic, imported from here."""

from releases.services.approval import approve_release, has_valid_approval, reject_release
from releases.services.deploy import deploy, order_signing_request, waits_for
from releases.services.evidence import accept_evidence, lacks_evidence
from releases.services.failures import decide_failure, exclude_ci, retry_failed_cis
from releases.services.package import (
    build_release,
    cancel_release,
    close_release,
    comment_release,
    draft_release,
    edit_release,
    left_out_changes,
    plan_release,
    record_exception,
    release_hash,
)
from releases.services.pausing import abort_rollout, next_wave, pause_rollout, resume_rollout, supersede_older
from releases.services.rollbacks import continue_rollback, roll_back_ci, roll_back_rollout, roll_back_wave
from releases.services.rollouts import start_rollout
from releases.services.schedule import cancel_start, schedule_start
from releases.services.signatures import missing_signatures, signing_request
from releases.services.testing import advance_test_runs, apply_again, skip_test, start_test, void_test
from releases.services.window_override import override_window

__all__ = [
    "abort_rollout",
    "accept_evidence",
    "advance_test_runs",
    "apply_again",
    "approve_release",
    "build_release",
    "cancel_release",
    "cancel_start",
    "close_release",
    "comment_release",
    "continue_rollback",
    "decide_failure",
    "deploy",
    "draft_release",
    "edit_release",
    "exclude_ci",
    "has_valid_approval",
    "lacks_evidence",
    "left_out_changes",
    "missing_signatures",
    "next_wave",
    "order_signing_request",
    "override_window",
    "pause_rollout",
    "plan_release",
    "record_exception",
    "reject_release",
    "release_hash",
    "resume_rollout",
    "retry_failed_cis",
    "roll_back_ci",
    "roll_back_rollout",
    "roll_back_wave",
    "schedule_start",
    "signing_request",
    "skip_test",
    "start_rollout",
    "start_test",
    "supersede_older",
    "void_test",
    "waits_for",
]
