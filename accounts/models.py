"""People, their teams and their roles."""

import pghistory
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person or a service account that uses the portal. Rights come from roles (groups), never from the team."""

    class Theme(models.TextChoices):
        AUTO = "auto", _("as the system")
        LIGHT = "light", _("light")
        DARK = "dark", _("dark")

    email = models.EmailField(_("email address"), blank=True)
    language = models.CharField(_("language"), max_length=10, default="en")
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC", help_text=_("IANA name, Europe/Berlin"))
    theme = models.CharField(_("theme"), max_length=5, choices=Theme, default=Theme.AUTO)
    is_service_account = models.BooleanField(
        _("service account"), default=False, help_text=_("Uses the API by token; never approves anything.")
    )

    class Meta(AbstractUser.Meta):
        verbose_name = _("user")  # type: ignore[assignment]
        verbose_name_plural = _("users")  # type: ignore[assignment]
        constraints = [
            models.UniqueConstraint(
                models.functions.Lower("email"),
                name="accounts_user_email_once",
                condition=~models.Q(email=""),
            )
        ]

    @property
    def label(self) -> str:
        """How pages and mails call the person."""
        return self.get_full_name() or self.username

    def __str__(self) -> str:
        return self.label


@pghistory.track(model_name="TeamHistory")
class Team(models.Model):
    """A group of people that takes work: the service desk, an application's operators, an approval board."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    email = models.EmailField(_("email address"), blank=True)
    members = models.ManyToManyField(User, related_name="teams", blank=True, verbose_name=_("members"))

    class Meta:
        ordering = ["name"]
        verbose_name = _("team")
        verbose_name_plural = _("teams")

    def __str__(self) -> str:
        return self.name


@pghistory.track(exclude=["sha256", "last_used_at"], model_name="ServiceTokenHistory")
class ServiceToken(models.Model):
    """What a service account shows the API: shown once, kept as SHA-256, with an end, for parts of the API only."""

    user = models.ForeignKey(User, models.CASCADE, related_name="service_tokens", verbose_name=_("service account"))
    name = models.CharField(_("what it is for"), max_length=100)
    sha256 = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(_("scopes"), default=list, help_text=_("For example cis:read, deploy:write, *:read."))
    created_by = models.ForeignKey(
        User, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("issued by")
    )
    created_at = models.DateTimeField(_("issued"))
    expires_at = models.DateTimeField(_("valid until"))
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("service token")
        verbose_name_plural = _("service tokens")
        permissions = [("manage_service_tokens", "Can issue and revoke tokens of service accounts")]

    def __str__(self) -> str:
        return f"{self.name} ({self.user_id})"


@pghistory.track(exclude=["sha256", "last_used_at"], model_name="CalendarFeedHistory")
class CalendarFeed(models.Model):
    """A person's calendar for other programs: an address with a secret, shown once and kept as SHA-256.

    It shows what its owner may see now, of the kinds that he chose, until he revokes it.
    """

    user = models.ForeignKey(User, models.CASCADE, related_name="calendar_feeds", verbose_name=_("owner"))
    name = models.CharField(_("what it is for"), max_length=100)
    sha256 = models.CharField(max_length=64, unique=True)
    kinds = models.JSONField(_("shows"), default=list)
    only_mine = models.BooleanField(_("only what is mine"), default=False)
    created_at = models.DateTimeField(_("made"))
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("calendar feed")
        verbose_name_plural = _("calendar feeds")

    def __str__(self) -> str:
        return f"{self.name} ({self.user_id})"
