"""Who may speak for devices besides their own tokens, and the devices that came that way and wait for approval."""

from typing import Any

import pghistory
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cmdb.models.groups import CIGroup
from cmdb.models.items import AgentProfile, CIClass, ConfigurationItem
from tickets.numbers import format_number


class _ForManagers(models.QuerySet[Any]):
    def visible_to(self, user: Any) -> "_ForManagers":
        """Only those who register CIs see who may speak for them."""
        return self if user.has_perm("cmdb.manage_cis") else self.none()


class Admits(models.Model):
    """What lets unknown devices in: with the defaults that the approval proposes for them."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    may_register = models.BooleanField(
        _("lets new devices wait for approval"),
        default=True,
        help_text=_("Otherwise it serves known CIs only."),
    )
    ci_class = models.ForeignKey(
        CIClass, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("class of new CIs")
    )
    agent_profile = models.ForeignKey(
        AgentProfile, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("profile of new CIs")
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


@pghistory.track(exclude=["sha256"], model_name="GatewayTokenHistory")
class GatewayToken(Admits):
    """A secret by which a gateway speaks for every CI of one group; 32 random bytes, shown once, kept as SHA-256."""

    PREFIX = "GWT"

    group = models.ForeignKey(CIGroup, models.PROTECT, related_name="gateway_tokens", verbose_name=_("CI group"))
    sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(_("issued"))
    revoked_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = _ForManagers.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("gateway token")
        verbose_name_plural = _("gateway tokens")

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)


@pghistory.track(model_name="TrustedAuthorityHistory")
class TrustedAuthority(Admits):
    """An issuer of device certificates, as the proxy names it after it has verified the certificate."""

    identifier = models.CharField(
        _("identifier"),
        max_length=256,
        unique=True,
        help_text=_("What the proxy sends for it, for example the hash of the issuer; capitals do not matter."),
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("trusted authority")
        verbose_name_plural = _("trusted authorities")

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.identifier = self.identifier.strip().lower()
        super().save(*args, **kwargs)


@pghistory.track(exclude=["last_seen_at", "attributes", "address"], model_name="RegistrationHistory")
class Registration(models.Model):
    """A device that nobody registered and that a gateway token or a certificate let in: it waits for approval.

    It is no CI yet: nothing can be planned for it or offered to it. waiting → approved (there is its CI) or rejected
    (it is refused like a stranger).
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("waits for approval")
        APPROVED = "approved", _("approved")
        REJECTED = "rejected", _("rejected")

    PREFIX = "REG"

    agent_id = models.CharField(_("agent id"), max_length=128, unique=True)
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.WAITING)
    gateway_token = models.ForeignKey(
        GatewayToken, models.PROTECT, null=True, blank=True, related_name="registrations", verbose_name=_("gateway")
    )
    authority = models.ForeignKey(
        TrustedAuthority, models.PROTECT, null=True, blank=True, related_name="registrations",
        verbose_name=_("authority"),
    )  # fmt: skip
    address = models.GenericIPAddressField(_("came from"), null=True, blank=True)
    attributes = models.JSONField(_("reported attributes"), default=dict, blank=True)
    first_seen_at = models.DateTimeField(_("first seen"))
    last_seen_at = models.DateTimeField(_("last seen"))
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("decided by")
    )
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    ci = models.OneToOneField(
        ConfigurationItem, models.PROTECT, null=True, blank=True, related_name="registration", verbose_name=_("CI")
    )

    objects = _ForManagers.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = _("waiting device")
        verbose_name_plural = _("waiting devices")
        constraints = [
            models.CheckConstraint(
                condition=Q(gateway_token__isnull=True) ^ Q(authority__isnull=True), name="cmdb_registered_by_one"
            ),
            models.CheckConstraint(condition=Q(state="approved") ^ Q(ci__isnull=True), name="cmdb_approved_means_ci"),
        ]
        indexes = [
            models.Index(fields=["gateway_token"], name="cmdb_registration_waiting", condition=Q(state="waiting"))
        ]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    @property
    def admitted_by(self) -> GatewayToken | TrustedAuthority:
        """What let it in."""
        source = self.gateway_token or self.authority
        assert source is not None
        return source

    def __str__(self) -> str:
        return self.agent_id
