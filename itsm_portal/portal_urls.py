"""Addresses of the portal's pages; each app brings its own."""

from django.urls import include, path

from itsm_portal.views.calendar import CalendarPage
from itsm_portal.views.calendar_feeds import CalendarFeeds
from itsm_portal.views.frame import Bell, Notices, language, theme
from itsm_portal.views.home import Home
from itsm_portal.views.notice_preferences import NoticePreferences
from itsm_portal.views.operations import OperationsPage
from itsm_portal.views.pages import ActivityMatrix, Mailbox, StyleGuide
from itsm_portal.views.reports import ReportPage
from itsm_portal.views.search import Search
from itsm_portal.views.service_tokens import ServiceTokens

urlpatterns = [
    path("", Home.as_view(), name="home"),
    path("calendar/", CalendarPage.as_view(), name="calendar"),
    path("calendar/feeds/", CalendarFeeds.as_view(), name="calendar_feeds"),
    path("search/", Search.as_view(), name="search"),
    path("bell/", Bell.as_view(), name="bell"),
    path("notices/", Notices.as_view(), name="notices"),
    path("notices/preferences/", NoticePreferences.as_view(), name="notice_preferences"),
    path("theme/", theme, name="theme"),
    path("language/", language, name="language"),
    path("activity-matrix/", ActivityMatrix.as_view(), name="activity_matrix"),
    path("reports/", ReportPage.as_view(), name="reports"),
    path("reports/<slug:slug>/", ReportPage.as_view(), name="report"),
    path("operations/", OperationsPage.as_view(), name="operations"),
    path("styleguide/", StyleGuide.as_view(), name="styleguide"),
    path("mailbox/", Mailbox.as_view(), name="mailbox"),
    path("mailbox/<str:name>/", Mailbox.as_view(), name="mailbox_mail"),
    path("service-tokens/", ServiceTokens.as_view(), name="service_tokens"),
    path("lists/", include("tickets.urls")),
    path("tickets/", include("tickets.urls_ticket")),
    path("incidents/", include("incidents.urls")),
    path("problems/", include("problems.urls")),
    path("changes/", include("changes.urls")),
    path("releases/", include("releases.urls")),
    path("rollouts/", include("releases.urls_rollout")),
    path("cis/", include("cmdb.urls")),
    path("cis/", include("distribution.channels.ansible.urls")),
    path("deployments/", include("distribution.urls")),
    path("software/", include("software.urls")),
    path("environments/", include("test_environments.urls")),
    path("accounts/", include("allauth.account.urls")),
]
