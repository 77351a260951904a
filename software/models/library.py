"""Products, their versions and files: the only source of software that may be installed."""

import pghistory
from django.conf import settings
from django.core.files.storage import Storage, storages
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from software.versions import LABEL, sort_key


@pghistory.track(model_name="ProductHistory")
class Product(models.Model):
    """A piece of software with versions of its own: an application, an agent, a firmware."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    slug = models.SlugField(
        _("short name"), max_length=64, unique=True, help_text=_("Devices know the product by it; it never changes.")
    )
    description = models.TextField(_("description"), blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="products",
        verbose_name=_("owner"),
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("product")
        verbose_name_plural = _("products")
        permissions = [("manage_software", "Can add products and versions and store their files")]

    def __str__(self) -> str:
        return self.name


class Format(models.TextChoices):
    """The channels of a version: what kind of file it is, and so which agents take it."""

    ARCHIVE = "archive", _("archive")
    SWU = "swu", _("SWUpdate image")
    RAUC = "rauc", _("RAUC bundle")
    ANSIBLE_ROLE = "ansible_role", _("Ansible role")


_ENDINGS = {".swu": Format.SWU, ".raucb": Format.RAUC, ".role.tar.gz": Format.ANSIBLE_ROLE}


def format_of(filename: str) -> Format:
    """The format that a file's name tells by its ending; an archive unless it tells another one."""
    found = (kind for ending, kind in _ENDINGS.items() if filename.lower().endswith(ending))
    return next(found, Format.ARCHIVE)


class VersionQuerySet(models.QuerySet["Version"]):
    def ready(self) -> "VersionQuerySet":
        """Versions that may be installed: with a verified artifact, not withdrawn."""
        return self.filter(state=Version.State.READY)


@pghistory.track(model_name="VersionHistory")
class Version(models.Model):
    """One version of a product. `ready` once its files are stored and verified; nothing else is ever offered.

    `quarantined`: a stored file is not what it was; a second person brings it back. `archived`: nothing needs it any
    more, its files are gone.
    """

    class State(models.TextChoices):
        DRAFT = "draft", _("without artifact")
        READY = "ready", _("ready")
        WITHDRAWN = "withdrawn", _("withdrawn")
        QUARANTINED = "quarantined", _("quarantined")
        ARCHIVED = "archived", _("archived")

    product = models.ForeignKey(Product, models.PROTECT, related_name="versions", verbose_name=_("product"))
    label = models.CharField(
        _("version"),
        max_length=64,
        validators=[RegexValidator(rf"^{LABEL.pattern}$", _("Letters, digits and . _ + - only."))],
    )
    order = models.CharField(max_length=400, db_collation="C", editable=False)
    state = models.CharField(_("state"), max_length=11, choices=State, default=State.DRAFT)
    state_reason = models.CharField(_("reason"), max_length=300, blank=True, help_text=_("Why it is not offered."))
    notes = models.TextField(_("release notes"), blank=True)
    counter = models.PositiveBigIntegerField(
        _("counter"),
        null=True,
        blank=True,
        help_text=_("From its signed manifest: agents go to a lower one only by a signed decision. Never changes."),
    )
    must_not_skip = models.BooleanField(
        _("must not be skipped"),
        default=False,
        db_default=False,
        help_text=_("A CI that runs an older version gets this one before any later one."),
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(_("created"))

    objects = VersionQuerySet.as_manager()

    class Meta:
        ordering = ["product", "-order"]
        verbose_name = _("version")
        verbose_name_plural = _("versions")
        constraints = [
            models.UniqueConstraint(fields=["product", "label"], name="software_version_once"),
            models.UniqueConstraint(fields=["product", "counter"], name="software_counter_once"),
        ]
        # They are few: each offer asks whether one lies on its way.
        indexes = [models.Index(fields=["product", "order"], name="software_steps", condition=Q(must_not_skip=True))]

    def save(self, *args: object, **kwargs: object) -> None:
        self.order = sort_key(self.label)
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.product} {self.label}"


def artifact_storage() -> Storage:
    """Where files lie: `STORAGES["artifacts"]`."""
    return storages["artifacts"]


def artifact_path(artifact: "Artifact", filename: str) -> str:
    """Where the file lies below the media folder: by content, so that no name from outside is a path."""
    return f"dml/{artifact.sha256[:2]}/{artifact.sha256}"


@pghistory.track(exclude=["checked_at", "check_begun_at"], model_name="ArtifactHistory")
class Artifact(models.Model):
    """A file of a version, with its size and digests as measured when it was stored.

    An agent gets the files of the format that its profile takes.
    """

    version = models.ForeignKey(Version, models.PROTECT, related_name="artifacts")
    filename = models.CharField(
        _("file name"), max_length=128, validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    )
    format = models.CharField(_("format"), max_length=12, choices=Format, default=Format.ARCHIVE)
    file = models.FileField(upload_to=artifact_path, max_length=200, storage=artifact_storage)
    size = models.PositiveBigIntegerField(_("size in bytes"))
    sha1 = models.CharField(max_length=40)
    md5 = models.CharField(max_length=32)
    sha256 = models.CharField(max_length=64, db_index=True)
    uploaded_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    uploaded_at = models.DateTimeField()
    repaired_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text=_("Who stored the same content again, after the file was lost or changed."),
    )
    checked_at = models.DateTimeField(null=True, blank=True, help_text=_("When its bytes were read and compared last."))
    check_begun_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("artifact")
        verbose_name_plural = _("artifacts")
        constraints = [models.UniqueConstraint(fields=["version", "filename"], name="software_artifact_once")]

    def __str__(self) -> str:
        return self.filename
