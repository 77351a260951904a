"""Two releases to the same CIs: their plans, their starts, and the times that were ordered for them."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from distribution.models import Batch, DeploymentItem, WayBack
from releases import services
from releases.models import PlanGeneration, Release, ReleaseApproval, Rollout, RolloutException
from releases.policy import RolloutPolicy
from releases.services.content import release_hash
from tests.releases.any_sequence.stage import Stage, ci_numbers
from tests.releases.world import POLICY, state
from tickets.exceptions import DomainError

SHOP = "shop.example.org"
# Beside the plain policy, an example has at most two of these: few things at a time meet more often.
EXTRAS: dict[str, dict[str, Any]] = {
    "early life": {"early_life_seconds": 50, "incident_gate": {"count": 0}},
    "failures are counted": {"error_count": 0, "error_threshold": 100, "min_sample": 2},
    "incidents breach": {"incident_gate": {"count": 0, "then": "breach"}},
    "incidents stop it": {"incident_gate": {"count": 1}},
    "one download": {"max_downloads": 1},
    "probes": {"probes": [{"url": f"http://{SHOP}/healthz", "every": 5, "samples": 2, "failures": 1}]},
    "retries": {"retry": {"codes": ["health_check_failed"], "attempts": 2, "backoff_seconds": 5}},
    "rollbacks stop": {"rollback": {"error_threshold": 0, "max_in_flight": 1}},
    "soft": {"mode": "soft", "force_after": 100},
    "until": {"total_deadline": 300},
}
plain = st.fixed_dictionaries(
    {
        "on_error": st.sampled_from(["pause", "rollback_wave", "rollback_all"]),
        "overdue_counts_as": st.sampled_from(["failure", "skipped"]),
        "success_threshold": st.sampled_from([50, 80, 100]),
        "error_threshold": st.sampled_from([0, 20, 50]),
        "max_in_flight": st.sampled_from([None, 1, 2]),
        "manual_gate": st.booleans(),
    }
)
extras = st.lists(st.sampled_from(sorted(EXTRAS)), max_size=2, unique=True)


class Plans(Stage):
    @initialize(
        plain=plain,
        extras=extras,
        supersede=st.booleans(),
        returns=st.sampled_from([True, True, True, False]),
        patient=st.booleans(),
    )
    def start(self, plain: dict[str, Any], extras: list[str], supersede: bool, returns: bool, patient: bool) -> None:
        """`returns`: the package has a way back. `patient`: at the end people let everything come to its own end."""
        self.extras, self.patient = extras, patient
        policy = {**POLICY, **plain}
        for name in extras:
            policy |= EXTRAS[name]
        self.policy_of_the_other = {**policy, "supersede": supersede, "waves": [{"count": 2}, {"rest": True}]}
        self.as_if_planned(policy, way_back=WayBack.REINSTALL if returns else WayBack.IMPOSSIBLE)

    def as_if_planned(self, policy: dict[str, Any], *, way_back: str) -> None:
        """The first rollout, which every example begins with, as if it had been planned and started like this.

        Written into its rows: planning and starting it anew would take a fifth of the time of an example.
        """
        release, rollout = Release.objects.filter(pk=self.release.pk), Rollout.objects.filter(release=self.release)
        read = RolloutPolicy.from_json(policy)
        release.update(policy=policy)
        release.get().items.update(way_back=way_back)
        DeploymentItem.objects.update(way_back=way_back)
        content = release_hash(release.get())
        if way_back == WayBack.IMPOSSIBLE:
            self.accept_that_nothing_leads_back(release.get(), at=rollout.get().started_at)
        ReleaseApproval.objects.filter(release=self.release).update(content_hash=content)
        rollout.update(policy=read.to_json(), approved_hash=content)
        PlanGeneration.objects.filter(release=self.release, number=rollout.get().generation).update(policy=policy)
        Batch.objects.update(
            max_in_flight=read.max_in_flight,
            max_downloads=read.max_downloads,
            total_deadline=read.total_deadline,
            mode=read.mode,
            force_after=read.force_after,
        )

    def edit(self, release: Release, **values: Any) -> None:
        services.edit_release(Release.objects.get(pk=release.pk), actor=self.world.erik, now=self.world.now, **values)

    def order(self, release: Release, after: int = 0) -> None:
        """Approved by one person and started, or ordered for so many seconds later, by another."""
        release, now = Release.objects.get(pk=release.pk), self.world.now
        with suppress(DomainError):
            if release.items.filter(way_back=WayBack.IMPOSSIBLE).exists():
                self.accept_that_nothing_leads_back(release, at=now)
            services.approve_release(release, actor=self.world.mona, now=now)
            if after:
                start_at = now + timedelta(seconds=after)
                services.schedule_start(release, actor=self.world.sven, now=now, start_at=start_at)
            else:
                services.start_rollout(release, actor=self.world.sven, now=now)

    def accept_that_nothing_leads_back(self, release: Release, *, at: datetime) -> None:
        kind = RolloutException.Kind.NO_WAY_BACK
        services.record_exception(release, kind=kind, actor=self.world.mona, now=at, reason="it is accepted")

    @precondition(lambda self: state(self.other) == "ready")
    @rule(after=st.sampled_from([0, 0, 10]))
    def start_the_other(self, after: int) -> None:
        self.edit(self.other, policy=self.policy_of_the_other)
        self.order(self.other, after)

    @precondition(lambda self: state(self.release) == "ready")
    @rule(again=st.sets(ci_numbers), after=st.sampled_from([0, 0, 10]))
    def start_again(self, again: set[int], after: int) -> None:
        """After an abort; `again`: CIs that get it although it failed on them before."""
        if again:
            self.edit(self.release, targets={"again": sorted(self.ci(number).pk for number in again)})
        self.order(self.release, after)

    @precondition(lambda self: Release.objects.filter(start_for__isnull=False).exists())
    @rule()
    def the_start_is_cancelled(self) -> None:
        release = Release.objects.filter(start_for__isnull=False).order_by("pk")[0]
        self.verb(services.cancel_start, release, person="olga")
