"""What pages of lower apps show of installed versions."""

from typing import Any

from django import template
from django.db.models import Count

from cmdb.models import InstalledVersion

register = template.Library()


@register.simple_tag
def installed_counts(product: Any) -> dict[int | None, int]:
    """On how many production CIs each version of a product runs now; copies for tests do not count."""
    rows = (
        InstalledVersion.objects.filter(product=product, valid_to__isnull=True, ci__copy_of__isnull=True)
        .values("version_id")
        .annotate(count=Count("pk"))
        .order_by()
    )
    return {row["version_id"]: row["count"] for row in rows}


@register.filter
def count_of(counts: dict[int | None, int], key: int) -> int:
    """The count of one version; 0 when it runs nowhere."""
    return counts.get(key, 0)
