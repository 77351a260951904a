"""The language in which the portal writes things down."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.utils import translation


@contextmanager
def portal_language() -> Iterator[None]:
    """A context, or a decorator, in which texts are made in the portal's language, whoever acts.

    For what is stored and read by many: entries of timelines, events, reasons. Otherwise a timeline would change its
    language with each author. Not for what the acting person is told at once (refusals, pages), nor for notices, which
    are written in the language of their reader.
    """
    # Not the override itself: as a decorator it would be one object for all threads.
    with translation.override(settings.LANGUAGE_CODE):
        yield


def gettext(message: str) -> str:
    """A single text in the portal's language: `language.gettext("Created.")` for what is written down."""
    with portal_language():
        return translation.gettext(message)


def ngettext(singular: str, plural: str, count: int) -> str:
    """The same for a text with a number of things in it."""
    with portal_language():
        return translation.ngettext(singular, plural, count)
