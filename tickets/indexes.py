"""The indexes that keep lists of very many tickets as fast as those of few."""

from collections.abc import Iterable

from django.db import models
from django.db.models import Q

from tickets.searching import word_indexes


def list_indexes(name: str, over: Iterable[str]) -> list[models.Index]:
    """What lists of this kind of ticket are filtered and sorted by; `over` are the states of finished tickets.

    Open tickets are few and asked for all the time: they have small indexes of their own.
    """
    is_open = ~Q(state__in=[str(state) for state in over])
    return [
        models.Index(fields=["id"], condition=is_open, name=f"{name}_open"),
        models.Index(fields=["priority", "id"], condition=is_open, name=f"{name}_open_priority"),
        models.Index(fields=["updated_at", "id"], condition=is_open, name=f"{name}_open_updated"),
        models.Index(fields=["assignee", "id"], condition=is_open, name=f"{name}_open_assignee"),
        models.Index(fields=["team", "id"], condition=is_open, name=f"{name}_open_team"),
        models.Index(fields=["state", "id"], name=f"{name}_state"),
        models.Index(fields=["priority", "id"], name=f"{name}_priority"),
        models.Index(fields=["updated_at", "id"], name=f"{name}_updated"),
        *word_indexes(f"{name}_title", "title"),
    ]
