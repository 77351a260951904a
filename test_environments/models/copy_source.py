"""What an administrator sets up: which CI may be copied from where, and what is taken out of copies."""

import pghistory
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from test_environments.folders import check_relative_folder
from test_environments.models.golden_image import GoldenImage


@pghistory.track(model_name="CopySourceHistory")
class CopySource(models.Model):
    """Where a production CI may be copied from; set by an administrator, never by a device."""

    class Method(models.TextChoices):
        FOLDER = "folder", _("folder of its agent")
        DISK = "disk", _("disk image")
        DOMAIN = "domain", _("running virtual machine")
        MEDIUM = "medium", _("capture medium on the physical machine")
        UPLOAD = "upload", _("upload of a disk image")

    ci = models.OneToOneField("cmdb.ConfigurationItem", models.PROTECT, related_name="copy_source")
    folder = models.CharField(
        _("folder"),
        max_length=255,
        blank=True,
        validators=[check_relative_folder],
        help_text=_(
            "The agent's root folder of the CI, or its disk image, relative to the folder of sources in the settings; "
            "the machine's name for a running virtual machine; empty for capture medium and upload."
        ),
    )
    driver = models.CharField(_("driver"), max_length=20, default="file_copy")
    method = models.CharField(_("method"), max_length=10, choices=Method, default=Method.FOLDER)
    kind = models.CharField(_("kind"), max_length=10, choices=GoldenImage.Kind, default=GoldenImage.Kind.FILES)
    classification = models.CharField(
        _("classification"),
        max_length=20,
        choices=GoldenImage.Classification,
        default=GoldenImage.Classification.INTERNAL,
    )
    needs_approval = models.BooleanField(
        _("each copy needs an approval"),
        default=False,
        help_text=_("Whole disks, and what is more than internal, always need one."),
    )

    class Meta:
        verbose_name = _("source of copies")
        verbose_name_plural = _("sources of copies")

    # These take what is received in the portal, each under a name of its own.
    RECEIVED = (Method.MEDIUM, Method.UPLOAD)
    # These bring the disk of another machine, whose system may be adapted.
    FOREIGN = (Method.DISK, *RECEIVED)

    def __str__(self) -> str:
        return f"{self.ci_id}: {self.folder or self.method}"

    @property
    def is_files(self) -> bool:
        """Whether its copies are files on the test host, and no machines."""
        return self.kind == GoldenImage.Kind.FILES and self.method not in self.RECEIVED

    def clean(self) -> None:
        """Only what is received needs no folder, and only folders become file copies. Raises ValidationError."""
        if not self.folder and self.method not in self.RECEIVED:
            raise ValidationError({"folder": _("Name the folder, the disk image or the machine.")})
        if self.driver == "file_copy" and self.method != self.Method.FOLDER:
            raise ValidationError(
                {"driver": _("File copies are taken from folders only; machines are made by libvirt.")}
            )


@pghistory.track(model_name="NeutralisingRecipeHistory")
class NeutralisingRecipe(models.Model):
    """What is taken out of every copy of a CI class before it runs: mail relay, schedulers, credentials, endpoints."""

    ci_class = models.ForeignKey("cmdb.CIClass", models.PROTECT, related_name="neutralising_recipes")
    name = models.CharField(_("name"), max_length=64)
    remove = models.JSONField(
        _("remove"), default=list, blank=True, help_text=_('Paths in the copy, * within a name: ["etc/cron.d/*"].')
    )
    write = models.JSONField(
        _("write"), default=dict, blank=True, help_text=_('Path and new text: {"etc/mail.conf": "relay=none"}.')
    )
    disable = models.JSONField(
        _("disable"), default=list, blank=True, help_text=_("Services of a machine that must not start.")
    )
    is_masking = models.BooleanField(
        _("masking"), default=False, help_text=_("Applied to the image itself, before anybody can make a copy of it.")
    )

    class Meta:
        ordering = ["ci_class_id", "name"]
        verbose_name = _("recipe for copies")
        verbose_name_plural = _("recipes for copies")
        constraints = [models.UniqueConstraint(fields=["ci_class", "name"], name="recipe_once_per_class")]

    def __str__(self) -> str:
        return self.name
