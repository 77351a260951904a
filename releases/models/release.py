"""The release ticket and its package."""

from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from distribution.models import WayBack
from test_environments.models import TestEnvironment
from tickets.activities import Process, activity_constraint
from tickets.indexes import list_indexes
from tickets.lifecycle import StateField
from tickets.models import Approval, Ticket, TimelineEntry, union_of

# States of releases that nobody has to work on any more.
OVER = ("completed", "closed", "cancelled", "rolled_back", "partially_rolled_back")


class ReleaseQuerySet(models.QuerySet["Release"]):
    def open(self) -> "ReleaseQuerySet":
        return self.exclude(state__in=OVER)

    def visible_to(self, user: Any) -> "ReleaseQuerySet":
        """All with the right; else those whose RFCs stand behind one's own tickets."""
        if user.has_perm("releases.see_all_releases"):
            return self
        mine = (
            Release.objects.filter(requester=user),
            Release.objects.filter(changes__requester=user),
            Release.objects.filter(changes__problems__incidents__requester=user),
            Release.objects.filter(changes__incidents__requester=user),
        )
        return self.filter(pk__in=union_of(mine))


@pghistory.track(exclude=["updated_at"], model_name="ReleaseHistory")
class Release(Ticket):
    """A package of all planned changes to its products, with the versions that implement them.

    draft → planned (plan and targets) → built (all versions ready) → testing → ready (test passed) → deploying →
    completed → closed. test_failed goes back to built. Editing the package after testing began voids test and approval.
    """

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        PLANNED = "planned", _("planned")
        BUILT = "built", _("built")
        TESTING = "testing", _("testing")
        TEST_FAILED = "test_failed", _("test failed")
        READY = "ready", _("ready")
        DEPLOYING = "deploying", _("deploying")
        COMPLETED = "completed", _("completed")
        ROLLED_BACK = "rolled_back", _("rolled back")
        PARTIALLY_ROLLED_BACK = "partially_rolled_back", _("partially rolled back")
        CLOSED = "closed", _("closed")
        CANCELLED = "cancelled", _("cancelled")

    class Type(models.TextChoices):
        MAJOR = "major", _("major")
        MINOR = "minor", _("minor")
        EMERGENCY = "emergency", _("emergency")

    PREFIX = "REL"
    WORKERS = ("releases.build_release", "releases.approve_release", "releases.pause_rollout")

    state = StateField(default=State.DRAFT, choices=State)
    release_type = models.CharField(_("type"), max_length=9, choices=Type, default=Type.MINOR)
    changes = models.ManyToManyField("changes.Change", related_name="releases", blank=True, verbose_name=_("RFCs"))
    # The plan; read through `releases.policy`, which refuses what is incoherent.
    policy = models.JSONField(_("rollout policy"), default=dict, blank=True)
    targets = models.JSONField(_("target selector"), default=dict, blank=True)
    last_editor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("last editor"),
    )
    start_for = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("starts by itself for"),
        help_text=_("Who ordered the start: it happens in his name once every gate is open."),
    )
    start_at = models.DateTimeField(
        _("starts at"), null=True, blank=True, help_text=_("Empty, with an order: as soon as every gate is open.")
    )
    caused_incidents = models.ManyToManyField(
        "incidents.Incident",
        related_name="caused_by_releases",
        blank=True,
        verbose_name=_("incidents it caused"),
    )

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("release")
        verbose_name_plural = _("releases")
        constraints = [activity_constraint(Process.RELEASE)]
        indexes = list_indexes("release", OVER)
        permissions = [
            ("see_all_releases", "Can see every release and rollout"),
            ("build_release", "Can write releases, build packages and run tests"),
            ("approve_release", "Can approve releases"),
            ("start_rollout", "Can start and resume rollouts"),
            ("pause_rollout", "Can pause and abort rollouts"),
            ("roll_back_rollout", "Can roll back rollouts"),
            ("override_window", "Can let rollouts offer in spite of freezes and planned times"),
            ("record_exception", "Can record exceptions from the test gate or the way back"),
        ]

    @transition(
        "state",
        State.DRAFT,
        State.PLANNED,
        permission="releases.build_release",
        custom={"label": _("Plan"), "style": "primary"},
    )
    def plan(self) -> None:
        """RFCs, versions, targets and policy are named."""

    @transition(
        "state",
        State.PLANNED,
        State.BUILT,
        permission="releases.build_release",
        custom={"label": _("Build"), "style": "primary"},
    )
    def build(self) -> None:
        """Every version of the package is ready in the media library."""

    @transition(
        "state",
        [State.BUILT, State.TEST_FAILED],
        State.TESTING,
        permission="releases.build_release",
        custom={"label": _("Start test"), "style": "primary"},
    )
    def start_test(self) -> None:
        """It runs on a copy of a production CI."""

    @transition("state", State.TESTING, State.READY, custom={"label": _("Test passed"), "system": True})
    def pass_test(self) -> None:
        """The copy ran it for the whole problem-free period."""

    @transition("state", State.TESTING, State.TEST_FAILED, custom={"label": _("Test failed"), "system": True})
    def fail_test(self) -> None:
        """It failed on the copy."""

    @transition(
        "state",
        [State.TESTING, State.TEST_FAILED, State.READY],
        State.BUILT,
        permission="releases.build_release",
        custom={"label": _("Void test"), "style": "warning"},
    )
    def void_test(self) -> None:
        """The package is edited; test and approval no longer count."""

    @transition(
        "state",
        [State.BUILT, State.TEST_FAILED],
        State.READY,
        custom={"label": _("Test gate excepted"), "system": True},
    )
    def except_test(self) -> None:
        """A second person recorded an exception from the test gate."""

    @transition("state", State.READY, State.DEPLOYING, custom={"label": _("Rollout started"), "system": True})
    def deploy(self) -> None:
        """A rollout is on its way."""

    @transition("state", State.DEPLOYING, State.READY, custom={"label": _("Rollout aborted"), "system": True})
    def return_to_ready(self) -> None:
        """The rollout was aborted before anything was installed."""

    @transition("state", State.DEPLOYING, State.COMPLETED, custom={"label": _("Rollout completed"), "system": True})
    def complete(self) -> None:
        """Every wave has passed."""

    @transition(
        "state",
        [State.DEPLOYING, State.COMPLETED, State.READY],
        State.ROLLED_BACK,
        custom={"label": _("Rolled back"), "system": True},
    )
    def roll_back(self) -> None:
        """Every CI that had got it is back on its previous version."""

    @transition(
        "state",
        [State.DEPLOYING, State.COMPLETED, State.READY],
        State.PARTIALLY_ROLLED_BACK,
        custom={"label": _("Partially rolled back"), "system": True},
    )
    def roll_back_partially(self) -> None:
        """Some CIs could not go back; they are listed, and their owners told."""

    @transition(
        "state",
        [State.ROLLED_BACK, State.PARTIALLY_ROLLED_BACK, State.COMPLETED],
        State.CLOSED,
        permission="releases.build_release",
        custom={"label": _("Close"), "style": "secondary"},
    )
    def close(self) -> None:
        """Reviewed and done."""

    @transition(
        "state",
        [State.DRAFT, State.PLANNED, State.BUILT, State.TESTING, State.TEST_FAILED, State.READY],
        State.CANCELLED,
        permission="releases.build_release",
        custom={"label": _("Cancel"), "style": "danger"},
    )
    def cancel(self) -> None:
        """Not wanted any more; its RFCs are free for another release."""


class ReleaseEntry(TimelineEntry):
    """The release's timeline."""

    ticket = models.ForeignKey(Release, models.PROTECT, related_name="entries")

    class Meta(TimelineEntry.Meta):
        verbose_name = _("release entry")
        constraints = [
            models.UniqueConstraint(fields=["ticket", "key"], name="release_entry_key_once", condition=~Q(key=""))
        ]


@pghistory.track(model_name="PackageItemHistory")
class PackageItem(models.Model):
    """A version in the package; one version for each product, installed in the order of `position`.

    `way_back` declares how a CI leaves it again.
    """

    release = models.ForeignKey(Release, models.CASCADE, related_name="items")
    product = models.ForeignKey("software.Product", models.PROTECT, related_name="+")
    version = models.ForeignKey("software.Version", models.PROTECT, related_name="package_items")
    position = models.PositiveSmallIntegerField(default=1)
    way_back = models.CharField(_("way back"), max_length=10, choices=WayBack, default=WayBack.REINSTALL)

    class Meta:
        ordering = ["position"]
        verbose_name = _("package item")
        constraints = [models.UniqueConstraint(fields=["release", "product"], name="release_one_version_per_product")]

    def __str__(self) -> str:
        return str(self.version)


@pghistory.track(model_name="LeftOutChangeHistory")
class LeftOutChange(models.Model):
    """An authorised RFC of the package's products that this release leaves out, and why."""

    release = models.ForeignKey(Release, models.CASCADE, related_name="left_out")
    change = models.ForeignKey("changes.Change", models.PROTECT, related_name="left_out_of")
    reason = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["release", "change"], name="release_left_out_once")]

    def __str__(self) -> str:
        return f"{self.change_id}: {self.reason[:40]}"


@pghistory.track(model_name="ReleaseApprovalHistory")
class ReleaseApproval(Approval):
    """The one approval that covers release and rollout; bound to package, RFCs, policy, waves and target selector."""

    release = models.ForeignKey(Release, models.PROTECT, related_name="approvals")
    target_count = models.PositiveIntegerField(default=0, help_text=_("How many CIs the selector matched then."))

    class Meta(Approval.Meta):
        verbose_name = _("release approval")


class TestPolicy(models.Model):
    """The problem-free period that a type of release needs on a copy before it is ready."""

    __test__ = False

    release_type = models.CharField(max_length=9, choices=Release.Type, unique=True)
    soak_seconds = models.PositiveIntegerField(_("problem-free period in seconds"))
    early_life_days = models.PositiveSmallIntegerField(_("days of early life support"), default=5)
    evidence = models.CharField(
        _("evidence needed"),
        max_length=20,
        choices=TestEnvironment.Evidence,
        default=TestEnvironment.Evidence.FILE_COPY,
        help_text=_("What kind of copy a test has to run on; less is a recorded exception by a second person."),
    )

    DEFAULT_SOAK = {
        Release.Type.MAJOR: 7 * 86400,
        Release.Type.MINOR: 2 * 86400,
        Release.Type.EMERGENCY: 4 * 3600,
    }

    class Meta:
        verbose_name = _("test policy")
        verbose_name_plural = _("test policies")
        constraints = [models.CheckConstraint(condition=Q(soak_seconds__gte=1), name="release_soak_at_least_1s")]

    def __str__(self) -> str:
        return f"{self.get_release_type_display()}: {self.soak_seconds} s"
