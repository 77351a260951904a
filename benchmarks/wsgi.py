"""The portal as it is served, with one address more: the bare view that a poll is compared with."""

from itsm_portal.wsgi import application  # isort: skip

from django.http import HttpRequest, HttpResponse
from django.urls import path

from cmdb.models import ConfigurationItem
from distribution.channels.ddi import urls


def bare(request: HttpRequest, pk: int) -> HttpResponse:
    """As little as a view with a database can do: one row by its primary key."""
    ci = ConfigurationItem.objects.only("agent_id").get(pk=pk)
    return HttpResponse(f'{{"agent_id":"{ci.agent_id}"}}', content_type="application/json")


urls.urlpatterns.insert(0, path("DEFAULT/controller/bare/<int:pk>", bare))

__all__ = ["application"]
