"""What key holders signed, as it arrived: the portal verifies and hands it on, it owns no key."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from software.models.library import Product, Version


class Signed(models.Model):
    """An envelope with what its content says about time. Append-only."""

    envelope = models.TextField(help_text=_("DSSE, as compact JSON."))
    sha256 = models.CharField(max_length=64, unique=True, help_text=_("Of the envelope: a repetition has the same."))
    issued_at = models.DateTimeField(_("issued"))
    expires_at = models.DateTimeField(_("expires"))
    uploaded_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    uploaded_at = models.DateTimeField(_("uploaded"))

    class Meta:
        abstract = True


class KeySet(Signed):
    """Which keys count, signed by root keys. The newest one of the chain from the pinned root keys is trusted."""

    number = models.PositiveBigIntegerField(_("number"), unique=True)
    changes_roots = models.BooleanField(
        default=True,
        help_text=_("Other root keys count from it on: devices that know only an older set need it as a step."),
    )

    class Meta:
        ordering = ["-number"]
        verbose_name = _("key set")
        verbose_name_plural = _("key sets")

    def __str__(self) -> str:
        return f"key set {self.number}"


class Believed(Signed):
    """Signed by a release key. Whether it counts depends on the trusted key set and is written anew with each one."""

    is_trusted = models.BooleanField(_("trusted"), default=True)
    good_until = models.DateTimeField(
        _("good until"),
        null=True,
        help_text=_("The earlier end of its own and the key set's time; empty: not trusted."),
    )

    class Meta:
        abstract = True


class ReleaseManifest(Believed):
    """The signed list of a version's files. A version may have several: the same content, signed again."""

    version = models.ForeignKey(Version, models.CASCADE, related_name="manifests")

    class Meta:
        ordering = ["-issued_at", "-id"]
        verbose_name = _("release manifest")
        verbose_name_plural = _("release manifests")

    def __str__(self) -> str:
        return f"manifest of {self.version}"


class RollbackDecision(Believed):
    """The signed leave to go from one version back to another, or (no `to_version`) to remove the product."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="rollback_decisions")
    from_version = models.ForeignKey(Version, models.CASCADE, related_name="decisions_from")
    to_version = models.ForeignKey(Version, models.CASCADE, null=True, blank=True, related_name="decisions_to")

    class Meta:
        ordering = ["-issued_at", "-id"]
        verbose_name = _("rollback decision")
        verbose_name_plural = _("rollback decisions")
        indexes = [models.Index(fields=["from_version", "to_version"], name="software_decision_pair")]

    def __str__(self) -> str:
        return way_back(self.from_version, self.to_version)


def way_back(origin: Any, target: Any) -> str:
    """A way back in words."""
    return f"{origin} → {target.label}" if target is not None else str(_("%s → removal") % origin)
