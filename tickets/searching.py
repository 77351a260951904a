"""Words in titles and names: found by an index, whatever the number of rows.

Words of three letters and more are found anywhere, by trigrams; shorter ones as words of their own, by full text.
"""

from typing import Any

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db.models import Q, QuerySet
from django.db.models.functions import Upper

MOST_WORDS = 8
SHORTEST_PART = 3
CONFIG = "simple"


def word_indexes(name: str, field: str) -> list[GinIndex]:
    """The indexes on a field that `having_words` uses; `name` begins theirs."""
    return [
        GinIndex(SearchVector(field, config=CONFIG), name=f"{name}_words"),
        GinIndex(OpClass(Upper(field), name="gin_trgm_ops"), name=f"{name}_parts"),
    ]


def having_words(rows: QuerySet[Any], field: str, text: str) -> QuerySet[Any]:
    """The rows whose field has every word of the text; all rows for an empty text."""
    words = text.replace("\0", "").split()[:MOST_WORDS]
    parts = Q()
    for word in (word for word in words if len(word) >= SHORTEST_PART):
        parts &= Q(**{f"{field}__icontains": word})
    rows = rows.filter(parts)
    # A mark alone is no word: full text would find nothing by it.
    short = [word for word in words if len(word) < SHORTEST_PART and any(letter.isalnum() for letter in word)]
    if short:
        found = SearchQuery(" ".join(short), config=CONFIG)
        rows = rows.annotate(words_of=SearchVector(field, config=CONFIG)).filter(words_of=found)
    return rows
