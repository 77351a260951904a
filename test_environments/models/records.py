"""What belongs to an environment or image: snapshots, events, the end of its console."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from test_environments.models.disk_reception import DiskReception
from test_environments.models.environment import TestEnvironment
from test_environments.models.golden_image import GoldenImage


class EnvironmentSnapshot(models.Model):
    """A state of an environment that was kept under a name; gone with the environment."""

    environment = models.ForeignKey(TestEnvironment, models.CASCADE, related_name="snapshots")
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=64)
    versions = models.JSONField(default=dict, blank=True, help_text=_("What the copy ran: product and version."))
    taken_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField()
    kept_at = models.DateTimeField(null=True, blank=True, help_text=_("Empty while it is being taken."))

    class Meta:
        ordering = ["-id"]
        verbose_name = _("snapshot")
        verbose_name_plural = _("snapshots")
        constraints = [models.UniqueConstraint(fields=["environment", "name"], name="snapshot_name_once")]

    def __str__(self) -> str:
        return self.name


class EnvironmentEvent(models.Model):
    """What happened to an environment, an image or a disk that is received, in words; written once, never changed."""

    environment = models.ForeignKey(TestEnvironment, models.CASCADE, null=True, blank=True, related_name="events")
    image = models.ForeignKey(GoldenImage, models.CASCADE, null=True, blank=True, related_name="events")
    reception = models.ForeignKey(DiskReception, models.CASCADE, null=True, blank=True, related_name="events")
    at = models.DateTimeField()
    text = models.TextField()
    is_problem = models.BooleanField(default=False)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints = [
            models.CheckConstraint(
                name="event_of_one_thing",
                condition=Q(environment__isnull=False, image__isnull=True, reception__isnull=True)
                | Q(environment__isnull=True, image__isnull=False, reception__isnull=True)
                | Q(environment__isnull=True, image__isnull=True, reception__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return self.text[:60]


class EnvironmentConsole(models.Model):
    """The end of what an environment said last on its console."""

    environment = models.OneToOneField(TestEnvironment, models.CASCADE, primary_key=True, related_name="console")
    text = models.TextField()
    at = models.DateTimeField()

    class Meta:
        verbose_name = _("console")
        verbose_name_plural = _("consoles")

    def __str__(self) -> str:
        return f"{self.environment_id}: {len(self.text)}"
