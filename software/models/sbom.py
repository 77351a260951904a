"""What a version is made of, as its maker says."""

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from software.models.library import Version


class Sbom(models.Model):
    """The bill of materials of a version (CycloneDX JSON), as it was attached."""

    version = models.OneToOneField(Version, models.CASCADE, related_name="sbom")
    document = models.TextField()
    sha256 = models.CharField(max_length=64)
    spec_version = models.CharField(_("CycloneDX version"), max_length=8)
    uploaded_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    uploaded_at = models.DateTimeField(_("uploaded"))

    class Meta:
        verbose_name = _("bill of materials")
        verbose_name_plural = _("bills of materials")

    def __str__(self) -> str:
        return f"bill of materials of {self.version}"


class Component(models.Model):
    """One part of a version: a library, a program, a file."""

    sbom = models.ForeignKey(Sbom, models.CASCADE, related_name="components")
    name = models.CharField(_("name"), max_length=255)
    version = models.CharField(_("version"), max_length=128, blank=True)
    kind = models.CharField(_("type"), max_length=32)
    purl = models.CharField(_("package URL"), max_length=512, blank=True)
    licences = models.CharField(_("licences"), max_length=255, blank=True)

    class Meta:
        ordering = ["name", "version", "id"]
        verbose_name = _("component")
        verbose_name_plural = _("components")
        # For the search of parts of texts; the upper case is what `icontains` and `iexact` compare.
        indexes = [
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="software_component_named"),
            GinIndex(OpClass(Upper("purl"), name="gin_trgm_ops"), name="software_component_purl"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()
