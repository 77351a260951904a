"""The portal's addresses. Every app brings its own; devices have the prefix of their tenant."""

from django.contrib import admin
from django.urls import include, path

from itsm_portal.views import health
from itsm_portal.views.calendar_feeds import calendar_feed
from itsm_portal.views.metrics import metrics
from itsm_portal.views.notice_preferences import unsubscribe

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    # Without signing in: whoever knows the secret reads it.
    path("feeds/<str:secret>.ics", calendar_feed, name="calendar_feed"),
    path("unsubscribe/<str:token>/", unsubscribe, name="unsubscribe"),
    path("metrics", metrics, name="metrics"),
    path("", include("distribution.channels.ddi.urls")),
    path("admin/", admin.site.urls),
    path("api/", include("itsm_portal.api_urls")),
    path("", include("itsm_portal.portal_urls")),
]
