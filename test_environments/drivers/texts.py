"""Texts that people read, said by code that knows no Django: English, with their parts kept for other languages."""

from collections.abc import Callable


class Text(str):
    """An English text, made of a template and its values; whoever knows a language says it anew.

    Is a plain string everywhere else. Write `_("It needs %(needed)d MB.", needed=3)`, so that xgettext finds it.
    """

    __slots__ = ("template", "values")
    template: str
    values: dict[str, object]

    def __new__(cls, template: str, **values: object) -> "Text":
        text = super().__new__(cls, template % values if values else template)
        text.template, text.values = template, values
        return text


def say(text: object, gettext: Callable[[str], str]) -> str:
    """A text, or an error's, in the language of `gettext`; what has no template stays as it is."""
    if isinstance(text, Exception) and text.args and isinstance(text.args[0], Text):
        text = text.args[0]
    if not isinstance(text, Text):
        return str(text)
    values = {name: _said(value, gettext) for name, value in text.values.items()}
    return gettext(text.template) % values if values else gettext(text.template)


def _said(value: object, gettext: Callable[[str], str]) -> object:
    return say(value, gettext) if isinstance(value, Text | Exception) else value
