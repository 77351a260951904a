"""Copies of production CIs in which a package is tried. Knows neither releases nor incidents."""

from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_fsm import transition

from test_environments.folders import check_relative_folder
from tickets.lifecycle import StateField, StatefulModel
from tickets.numbers import format_number


@pghistory.track(model_name="CopySourceHistory")
class CopySource(models.Model):
    """The folder of a production CI that may be copied; set by an administrator, never by a device."""

    ci = models.OneToOneField("cmdb.ConfigurationItem", models.PROTECT, related_name="copy_source")
    folder = models.CharField(
        _("folder"),
        max_length=255,
        validators=[check_relative_folder],
        help_text=_("The agent's root folder of the CI, relative to the folder of sources in the settings."),
    )

    class Meta:
        verbose_name = _("source of copies")
        verbose_name_plural = _("sources of copies")

    def __str__(self) -> str:
        return f"{self.ci_id}: {self.folder}"


class EnvironmentQuerySet(models.QuerySet["TestEnvironment"]):
    def unfinished(self) -> "EnvironmentQuerySet":
        return self.exclude(state=TestEnvironment.State.DESTROYED)

    def visible_to(self, user: Any) -> "EnvironmentQuerySet":
        if user.has_perm("test_environments.see_environments"):
            return self
        return self.none()


@pghistory.track(
    exclude=["observed_pid", "observed_at", "updated_at", "lease", "leased_until"],
    model_name="TestEnvironmentHistory",
)
class TestEnvironment(StatefulModel):
    """A copy of one production CI with an agent identity of its own.

    requested: wanted · capturing: the source is read · provisioning: the copy is being made and started ·
    ready: its agent has reported · applying: a package is on its way to it · destroying, destroyed ·
    error: remembers where it came from; offers retry and destroy.
    """

    __test__ = False  # not a test case, whatever its name

    class State(models.TextChoices):
        REQUESTED = "requested", _("requested")
        CAPTURING = "capturing", _("capturing")
        PROVISIONING = "provisioning", _("provisioning")
        READY = "ready", _("ready")
        APPLYING = "applying", _("applying a package")
        DESTROYING = "destroying", _("being destroyed")
        DESTROYED = "destroyed", _("destroyed")
        ERROR = "error", _("error")

    class Evidence(models.TextChoices):
        FILE_COPY = "file_copy", _("file copy")

    PREFIX = "ENV"

    source = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="test_environments")
    copy = models.OneToOneField(
        "cmdb.ConfigurationItem", models.PROTECT, null=True, blank=True, related_name="environment"
    )
    driver = models.CharField(max_length=20, default="file_copy")
    evidence = models.CharField(max_length=20, choices=Evidence, default=Evidence.FILE_COPY)
    state = StateField(default=State.REQUESTED, choices=State)
    error_from = models.CharField(max_length=32, blank=True)
    last_error = models.TextField(blank=True)
    # What the row wants and what the host process observed, apart.
    is_wanted_running = models.BooleanField(default=False)
    observed_pid = models.PositiveIntegerField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True)
    versions = models.JSONField(
        default=dict,
        blank=True,
        help_text=_("Product and version that the copy runs instead of the source's own."),
    )
    baseline = models.JSONField(
        default=dict, blank=True, help_text=_("Product and version that the source ran when it was captured.")
    )
    lease = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    purpose = models.CharField(max_length=64, blank=True, help_text=_("Who asked, in plain text: REL-0000002."))
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="test_environments"
    )
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    destroyed_at = models.DateTimeField(null=True, blank=True)

    objects = EnvironmentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("test environment")
        verbose_name_plural = _("test environments")
        permissions = [
            ("see_environments", "Can see test environments"),
            ("manage_environments", "Can create and destroy test environments"),
        ]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.number

    @transition("state", State.REQUESTED, State.CAPTURING, custom={"label": _("Capture"), "system": True})
    def capture(self) -> None:
        """The host process has taken the request."""

    @transition("state", State.CAPTURING, State.PROVISIONING, custom={"label": _("Provision"), "system": True})
    def provision(self) -> None:
        """The source was read; the copy is made and its agent started."""

    @transition("state", State.PROVISIONING, State.READY, custom={"label": _("Ready"), "system": True})
    def become_ready(self) -> None:
        """The copy's agent has reported what it runs."""

    @transition("state", State.READY, State.APPLYING, custom={"label": _("Apply"), "system": True})
    def apply(self) -> None:
        """A package is on its way to the copy."""

    @transition("state", State.APPLYING, State.READY, custom={"label": _("Applied"), "system": True})
    def applied(self) -> None:
        """The package was installed or refused; the copy is free again."""

    @transition(
        "state",
        [State.REQUESTED, State.CAPTURING, State.PROVISIONING, State.READY, State.APPLYING, State.DESTROYING],
        State.ERROR,
        custom={"label": _("Error"), "system": True},
    )
    def fail(self) -> None:
        """A step failed; `error_from` and `last_error` say which and why."""

    @transition(
        "state",
        State.ERROR,
        State.REQUESTED,
        permission="test_environments.manage_environments",
        custom={"label": _("Retry"), "style": "primary"},
    )
    def retry(self) -> None:
        """Begins again from the source."""

    @transition(
        "state",
        [State.REQUESTED, State.CAPTURING, State.PROVISIONING, State.READY, State.APPLYING, State.ERROR],
        State.DESTROYING,
        permission="test_environments.manage_environments",
        custom={"label": _("Destroy"), "style": "danger"},
    )
    def destroy(self) -> None:
        """The copy and its agent go; the record stays."""

    @transition("state", State.DESTROYING, State.DESTROYED, custom={"label": _("Destroyed"), "system": True})
    def finish_destroying(self) -> None:
        """Nothing is left on the host."""
