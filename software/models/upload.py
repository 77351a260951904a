"""A file that arrives in pieces."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from software.models.library import Artifact, Format, Version


class UploadQuerySet(models.QuerySet["Upload"]):
    def visible_to(self, user: Any) -> "UploadQuerySet":
        """One's own: nobody else goes on with them."""
        return self.filter(created_by=user)


class Upload(models.Model):
    """A large file on its way: `received` bytes of `size` are safely on disk, the next piece begins there.

    Finished once it has become an artifact; kept for a while, so that a repeated finish gets the same answer.
    """

    version = models.ForeignKey(Version, models.CASCADE, related_name="uploads")
    filename = models.CharField(_("file name"), max_length=128)
    format = models.CharField(_("format"), max_length=12, choices=Format, blank=True)
    more = models.BooleanField(default=False)
    size = models.PositiveBigIntegerField(_("size in bytes"))
    sha256 = models.CharField(max_length=64, blank=True)
    received = models.PositiveBigIntegerField(_("received"), default=0)
    # Names its file on disk; nothing from outside does.
    token = models.CharField(max_length=32, unique=True)
    artifact = models.ForeignKey(Artifact, models.CASCADE, null=True, blank=True, related_name="+")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField(db_index=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")

    def __str__(self) -> str:
        return f"{self.filename}: {self.received} of {self.size}"
