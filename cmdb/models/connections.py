"""How hosts without an agent are reached, and the secrets for it."""

import pghistory
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from cmdb.models.items import ConfigurationItem


@pghistory.track(exclude=["sealed"], model_name="CredentialHistory")
class Credential(models.Model):
    """What opens connections to hosts: a user's private key or password, encrypted; see `cmdb.credentials`."""

    class Kind(models.TextChoices):
        SSH_KEY = "ssh_key", _("private SSH key")
        PASSWORD = "password", _("password")

    name = models.CharField(_("name"), max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind, default=Kind.SSH_KEY)
    sealed = models.TextField(editable=False)
    changed_at = models.DateTimeField(_("changed"))

    class Meta:
        ordering = ["name"]
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")

    def __str__(self) -> str:
        return self.name


@pghistory.track(model_name="ConnectionHistory")
class Connection(models.Model):
    """How a host without an agent is reached, and where its software lives."""

    class Kind(models.TextChoices):
        SSH = "ssh", _("SSH")
        LOCAL = "local", _("this very machine")

    ci = models.OneToOneField(ConfigurationItem, models.PROTECT, related_name="connection")
    kind = models.CharField(_("connection"), max_length=5, choices=Kind, default=Kind.SSH)
    address = models.CharField(
        _("address"),
        max_length=253,
        blank=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9.:-]*$", _("A host name or an IP address."))],
    )
    port = models.PositiveIntegerField(
        _("port"), default=22, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    user = models.CharField(
        _("user"), max_length=64, blank=True, validators=[RegexValidator(r"^[A-Za-z_][A-Za-z0-9_.-]*\$?$")]
    )
    credential = models.ForeignKey(
        Credential,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="connections",
        verbose_name=_("credential"),
    )
    host_key = models.TextField(
        _("host key"),
        blank=True,
        help_text=_("As in a .pub file, one per line: “ssh-ed25519 AAAA…”. Any other key is refused."),
    )
    folder = models.CharField(
        _("folder"),
        max_length=255,
        validators=[RegexValidator(r"^/[A-Za-z0-9._/+-]*[A-Za-z0-9._+-]$", _("An absolute path without blanks."))],
        help_text=_("Where the software goes; it must be there and belong to the user."),
    )
    python = models.CharField(
        _("Python"),
        max_length=255,
        default="/usr/bin/python3",
        validators=[RegexValidator(r"^/[A-Za-z0-9._/+-]+$")],
        help_text=_("Path of the host's Python, 3.8 or newer."),
    )

    class Meta:
        verbose_name = _("connection")
        verbose_name_plural = _("connections")

    def __str__(self) -> str:
        return f"{self.ci_id} by {self.kind}"
