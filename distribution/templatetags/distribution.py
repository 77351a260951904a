"""What pages of lower apps show of deployments."""

from typing import Any

from django import template
from django.db.models import Prefetch

from distribution.models import Deployment, DeploymentItem

register = template.Library()


@register.simple_tag
def deployments_of(ci: Any) -> list[Deployment]:
    """The newest deployments to a CI with their items; the caller has checked that the CI may be seen."""
    items = DeploymentItem.objects.select_related("product", "to_version", "from_version")
    rows = Deployment.objects.filter(ci=ci).select_related("batch").order_by("-id")
    return list(rows.prefetch_related(Prefetch("items", queryset=items))[:15])
