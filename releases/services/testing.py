"""The test gate: a package becomes ready only by running on a copy of a production CI for a problem-free period."""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from cmdb.models import ConfigurationItem, InstalledVersion
from distribution import services as distribution
from distribution.models import Batch, Deployment, DeploymentState
from incidents.models import Incident
from releases.models import Release, RolloutException, TestPolicy, TestRun
from releases.services.approval import check_second_person, renew_request
from releases.services.content import check_ready, lock_release, package_hash
from releases.services.evidence import evidence_needed_for, lacks_evidence
from releases.services.exceptions import accept
from releases.services.problem_free_period import begun, keep_period, pause_or_go_on
from releases.services.signatures import check_signed
from test_environments import services as environments
from test_environments.models import GoldenImage, TestEnvironment
from tickets.exceptions import ConditionRefused, DomainError, InvalidInput
from tickets.lifecycle import check_permission, move
from tickets.models import EntryKind
from tickets.services import move_ticket, record

logger = logging.getLogger(__name__)

# How long the copy has for each step of an installation, in seconds.
TEST_DEADLINE = 1800
GONE = frozenset({TestEnvironment.State.ERROR, TestEnvironment.State.DESTROYING, TestEnvironment.State.DESTROYED})


def soak_seconds_for(release_type: str) -> int:
    """The problem-free period of a type of release, in seconds: from the test policies, else the default."""
    policy = TestPolicy.objects.filter(release_type=release_type).first()
    return policy.soak_seconds if policy else TestPolicy.DEFAULT_SOAK[Release.Type(release_type)]


def start_test(
    release: Release,
    *,
    actor: User,
    now: datetime,
    source_ci: ConfigurationItem,
    image: GoldenImage | None = None,
) -> TestRun:
    """built → testing: asks for a copy of `source_ci` and begins a test run of the present package on it.

    `image` is one of its golden images, so that several versions can be tried on the same one; without it a new one is
    taken. Refuses a CI that runs none of the package's products, and one that cannot be copied.
    """
    with transaction.atomic():
        release = lock_release(release)
        check_ready(release)
        check_signed(release, now=now, ways_back=False)  # the copy's agent installs nothing unsigned
        products = release.items.values("product")
        if not InstalledVersion.objects.filter(ci=source_ci, valid_to__isnull=True, product__in=products).exists():
            raise ConditionRefused(
                _("%(ci)s runs none of the products in this package; a copy of it would prove nothing.")
                % {"ci": source_ci.name}
            )
        move_ticket(
            release, "start_test", actor=actor, now=now, text=language.gettext("Test on a copy of a production CI.")
        )
        # Requesters read the release, too; whose CI it is, is for those who may see it.
        text = language.gettext("Test on a copy of %(ci)s.") % {"ci": source_ci.name}
        record(release, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text, public=False)
        for failed in release.test_runs.filter(state=TestRun.State.FAILED).select_related("environment"):
            _throw_away(failed, now=now)  # kept until now to be looked at
        environment = environments.request_environment(
            source_ci, actor=actor, now=now, purpose=release.number, image=image
        )
        return TestRun.objects.create(
            release=release,
            environment=environment,
            package_hash=package_hash(release),
            soak_seconds=soak_seconds_for(release.release_type),
            evidence_needed=evidence_needed_for(release.release_type),
            started_by=actor,
            created_at=now,
            updated_at=now,
        )


def void_test(release: Release, *, actor: User, now: datetime, reason: str = "") -> None:
    """Back to built: the test no longer counts."""
    with transaction.atomic():
        move_ticket(release, "void_test", actor=actor, now=now, text=reason)
        renew_request(release, now=now)
        void_current_run(release, now=now, reason=reason or language.gettext("Voided by hand."))


def void_current_run(release: Release, *, now: datetime, reason: str) -> None:
    """Voids the test run that counts for the release, if there is one, and takes its package off the copy's queue."""
    for run in release.test_runs.filter(state__in=TestRun.CURRENT):
        move(run, "void", actor=None, now=now, update={"finished_at": now, "reason": reason})
        _withdraw(run, now=now)
        _throw_away(run, now=now)


def apply_again(release: Release, *, actor: User, now: datetime, reason: str) -> None:
    """Takes the copy back to its image and applies the package anew: the problem-free period begins from nothing.

    What the period before came to is kept. Refuses without a test that soaks, and while the copy is busy.
    """
    check_permission(actor, "releases.build_release", _("apply the package again"))
    if not reason.strip():
        raise InvalidInput(_("Say why the package is applied again."), field="reason")
    with transaction.atomic():
        release = lock_release(release)
        soaking = release.test_runs.select_for_update(of=("self",)).filter(state=TestRun.State.SOAKING)
        run = soaking.select_related("environment", "batch").first()
        if run is None:
            raise ConditionRefused(
                _("No test of %(release)s is in its problem-free period. Start a test.") % {"release": release}
            )
        environments.revert_environment(run.environment, actor=actor, now=now)
        _withdraw(run, now=now)
        keep_period(run, now=now, why=language.gettext("Applied again: %s") % reason)
        update = {**begun(None), "batch": None, "restarts": run.restarts + 1}
        move(run, "start_over", actor=None, now=now, update=update)
        text = (
            language.gettext("The package is applied to the copy again (%s): the problem-free period begins anew.")
            % reason
        )
        record(release, kind=EntryKind.SYSTEM, actor=actor, now=now, text=text, public=False)


def skip_test(release: Release, *, actor: User, now: datetime, reason: str) -> None:
    """built → ready without a test: a recorded exception by somebody who did not write the release."""
    check_permission(actor, "releases.record_exception", _("skip the test gate"))
    if not reason.strip():
        raise InvalidInput(_("Say why the test is skipped."), field="reason")
    with transaction.atomic():
        release = lock_release(release)
        check_second_person(release, actor)
        check_ready(release)
        move_ticket(
            release, "except_test", actor=None, now=now, text=language.gettext("Test gate skipped: %s") % reason
        )
        accept(release, RolloutException.Kind.TEST_SKIPPED, actor=actor, now=now, reason=reason)
        renew_request(release, now=now)


@language.portal_language()
def advance_test_runs(*, now: datetime) -> int:
    """Moves every unfinished test run one step. Returns how many moved."""
    unfinished = TestRun.objects.filter(
        state__in=[TestRun.State.PREPARING, TestRun.State.APPLYING, TestRun.State.SOAKING]
    )
    moved = 0
    for key, release in list(unfinished.order_by("pk").values_list("pk", "release")):
        try:
            with transaction.atomic():
                # First the release, then the run, as whoever edits it.
                if Release.objects.select_for_update(skip_locked=True).only("pk").filter(pk=release).first() is None:
                    continue
                run = unfinished.select_for_update(skip_locked=True, of=("self",)).filter(pk=key).first()
                if run is not None:
                    moved += _advance(run, now)
        except DomainError as error:
            logger.warning("test run %s: %s", key, error)
    return moved


def _advance(run: TestRun, now: datetime) -> bool:
    step = {
        TestRun.State.PREPARING: _prepare,
        TestRun.State.APPLYING: _watch_applying,
        TestRun.State.SOAKING: _watch_soaking,
    }[TestRun.State(run.state)]
    return step(run, now)


def _prepare(run: TestRun, now: datetime) -> bool:
    environment = run.environment
    if environment.state in GONE:
        return _fail(run, now, _("The copy could not be made: %s") % (environment.last_error or environment.state))
    if environment.state != TestEnvironment.State.READY or environment.copy_id is None:
        return False
    batch = distribution.create_batch(
        label=run.release.number,
        purpose=Batch.Purpose.TEST,
        now=now,
        offer_deadline=TEST_DEADLINE,
        progress_deadline=TEST_DEADLINE,
        confirm_deadline=TEST_DEADLINE,
    )
    items = list(run.release.items.all())
    if not distribution.queue_deployments(
        batch,
        ci_ids=[environment.copy_id],
        package=[(item.product_id, item.version_id, item.position) for item in items],
        # So that a package that cannot be left as it says is found here.
        ways_back={item.product_id: item.way_back for item in items},
        now=now,
    ):
        return _fail(run, now, _("The copy reports none of the products in this package."))
    environments.begin_apply(environment, now=now)
    distribution.open_batch(batch, now=now)
    move(run, "apply", actor=None, now=now, update={"batch": batch})
    return True


def _watch_applying(run: TestRun, now: datetime) -> bool:
    assert run.batch_id is not None
    if run.environment.state in GONE:
        return _fail(run, now, _("The copy is gone: %s") % run.environment.get_state_display())
    distribution.pass_deadlines([run.batch_id], now=now)
    deployment = Deployment.objects.filter(batch=run.batch_id).order_by("-attempt").first()
    if deployment is None:
        return _fail(run, now, _("The package never reached the copy."))
    if deployment.state in {DeploymentState.SUCCEEDED, DeploymentState.SKIPPED}:
        environments.end_apply(run.environment, now=now)
        move(run, "soak", actor=None, now=now, update=begun(now))
        text = _("The copy runs the package; %(n)d seconds without a problem are needed.") % {"n": run.soak_seconds}
        record(run.release, kind=EntryKind.SYSTEM, actor=None, now=now, text=text)
        return True
    if deployment.finished_at or deployment.overdue_at:
        why = deployment.message or deployment.error_code or deployment.get_state_display()
        return _fail(run, now, _("On the copy: %s") % why)
    return False


def _watch_soaking(run: TestRun, now: datetime) -> bool:
    copy_id = run.environment.copy_id
    if not _runs_package(run):
        return _fail(run, now, _("The copy no longer reports the versions of the package."))
    if run.environment.state in GONE:
        return _fail(run, now, _("The copy is gone: %s") % run.environment.get_state_display())
    counted = run.counted_incidents.values("pk")
    fresh = list(
        Incident.objects.filter(ci=copy_id, created_at__gte=run.created_at)
        .exclude(pk__in=counted)
        .exclude(state=Incident.State.CANCELLED)
    )
    if fresh:
        run.counted_incidents.add(*fresh)
        why = _("Incident on the copy (%s)") % ", ".join(incident.number for incident in fresh)
        keep_period(run, now=now, why=why)
        TestRun.objects.filter(pk=run.pk).update(**begun(now), restarts=F("restarts") + 1, updated_at=now)
        text = _("%s: the problem-free period begins anew.") % why
        record(run.release, kind=EntryKind.SYSTEM, actor=None, now=now, text=text)
        return True
    environments.renew_by_use(run.environment, now=now)
    if pause_or_go_on(run, now):
        return True
    is_over = run.soaked(now) >= timedelta(seconds=run.soak_seconds)
    if not is_over or run.soak_paused_at or Incident.objects.open().filter(ci=copy_id).exists():
        return False
    if lacks_evidence(run):
        return False  # until a second person accepts it; the page says so
    move(run, "succeed", actor=None, now=now, update={"finished_at": now})
    text = _("%(n)d seconds without a problem on %(environment)s (%(evidence)s): test passed.") % {
        "n": run.soak_seconds,
        "environment": run.environment.number,
        "evidence": run.environment.get_evidence_display(),
    }
    move_ticket(run.release, "pass_test", actor=None, now=now, text=text)
    renew_request(run.release, now=now)
    _throw_away(run, now=now)
    return True


def _runs_package(run: TestRun) -> bool:
    """Whether the copy still reports every version that its deployment brought."""
    wanted = set(
        Deployment.objects.filter(batch=run.batch_id)
        .order_by("-attempt")
        .values_list("items__product", "items__to_version")
    )
    present = set(
        InstalledVersion.objects.filter(ci=run.environment.copy_id, valid_to__isnull=True).values_list(
            "product", "version"
        )
    )
    return wanted <= present


def _fail(run: TestRun, now: datetime, reason: str) -> bool:
    move(run, "fail", actor=None, now=now, update={"finished_at": now, "reason": reason})
    _withdraw(run, now=now)
    # What a device says is for those who work on the release, not for everybody who may follow it.
    move_ticket(run.release, "fail_test", actor=None, now=now, text=reason, public=False)
    return True


def _withdraw(run: TestRun, *, now: datetime) -> None:
    if run.batch_id is not None:
        batch = run.batch
        assert batch is not None
        distribution.close_batch(batch)
        distribution.cancel_open([batch.pk], now=now, reason=language.gettext("The test ended."))
    if run.environment.state == TestEnvironment.State.APPLYING:
        environments.end_apply(run.environment, now=now)


def _throw_away(run: TestRun, *, now: datetime) -> None:
    """The copy has served; its record stays as evidence."""
    if run.environment.state not in {TestEnvironment.State.DESTROYING, TestEnvironment.State.DESTROYED}:
        environments.destroy_environment(run.environment, actor=None, now=now)
