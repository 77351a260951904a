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
