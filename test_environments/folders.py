"""The notation of a folder that may be copied, as forms and models check it."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from test_environments.drivers.file_copy.sources import is_relative_folder


def check_relative_folder(folder: str) -> None:
    """A relative path in plain notation. Raises ValidationError for `..`, `/x`, `a//b`, `.hidden`."""
    if not is_relative_folder(folder):
        raise ValidationError(
            _("Name a folder below the folder of sources, like shop/till-7: no slash or dot in front.")
        )
