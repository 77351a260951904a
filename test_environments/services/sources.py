"""Which production CIs may be copied, and how."""

from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from cmdb.models import ConfigurationItem
from test_environments.drivers.file_copy.sources import why_not_a_source
from test_environments.drivers.texts import say
from test_environments.models import CopySource, DiskReception, GoldenImage
from tickets.exceptions import ConditionRefused


def check_source(source: ConfigurationItem) -> CopySource:
    """Where to copy `source` from. Refuses a CI that cannot be copied, saying why and what to do."""
    if source.copy_of_id is not None:
        raise ConditionRefused(
            _("%(ci)s is a copy for tests itself. Choose the CI that it was copied from.") % {"ci": source}
        )
    if source.lifecycle in {ConfigurationItem.Lifecycle.RETIRED, ConfigurationItem.Lifecycle.DISPOSED}:
        raise ConditionRefused(_("%(ci)s is retired. Choose a CI in operation.") % {"ci": source})
    if not source.agent_id:
        raise ConditionRefused(_("%(ci)s has no agent, so a copy of it could not be updated.") % {"ci": source})
    found = CopySource.objects.filter(ci=source).first()
    if found is None:
        raise ConditionRefused(
            _("%(ci)s may not be copied yet. An administrator names its folder under “Sources of copies”.")
            % {"ci": source}
        )
    if found.driver not in settings.TEST_ENVIRONMENT_DRIVERS:
        raise ConditionRefused(
            _("%(ci)s is copied by the driver “%(driver)s”, which is not set up (TEST_ENVIRONMENT_DRIVERS).")
            % {"ci": source, "driver": found.driver}
        )
    # A disk image is a file, a machine has no folder: those are found by the driver.
    root = Path(settings.TEST_ENVIRONMENT_SOURCES)
    why = why_not_a_source(root, found.folder) if found.method == CopySource.Method.FOLDER else ""
    if why:
        raise ConditionRefused(
            _("%(ci)s cannot be copied: %(why)s An administrator corrects it under “Sources of copies”.")
            % {"ci": source, "why": say(why, _)}
        )
    return found


def is_released(image: GoldenImage) -> bool:
    """Whether the source of an image may still be copied as it was asked for."""
    released = CopySource.objects.filter(ci_id=image.source_id, method=image.method)
    if image.method in CopySource.RECEIVED and DiskReception.objects.filter(image=image).exists():
        return released.exists()
    return released.filter(folder=image.location).exists()


def needs_approval(source: CopySource) -> bool:
    """Whether a person approves each copy: whole disks hold data, and so may what is more than internal."""
    harmless = {GoldenImage.Classification.PUBLIC, GoldenImage.Classification.INTERNAL}
    return source.needs_approval or not source.is_files or source.classification not in harmless
