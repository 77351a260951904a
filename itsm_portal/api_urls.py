"""Addresses below `/api/`: version 1 of the objects, the schema, its pages."""

from csp.constants import NONE, SELF, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import DefaultRouter

from changes.api import ChangeViewSet, FreezeViewSet, StandardTemplateViewSet
from cmdb.api import AgentProfileViewSet, CIClassViewSet, CIGroupViewSet, CIViewSet, MaintenanceWindowViewSet
from cmdb.api_admission import GatewayTokenViewSet, RegistrationViewSet
from distribution.api import DeploymentViewSet
from distribution.channels.ansible.api import ConnectionViewSet
from incidents.api import IncidentViewSet
from itsm_portal import api
from itsm_portal.api_calendar import CalendarFeedViewSet, CalendarViewSet
from itsm_portal.api_notice_preferences import NoticePreferencesView
from itsm_portal.api_notices import NoticeViewSet
from itsm_portal.api_reports import report_view
from itsm_portal.api_tokens import ServiceTokenViewSet
from itsm_portal.reports.figures import REPORTS
from problems.api import ProblemViewSet
from releases.api import ReleaseViewSet, RolloutViewSet
from releases.api_deploy import DeploySigningRequestView, DeployView
from software.api import ProductViewSet, VersionViewSet
from software.api_components import ComponentViewSet
from software.api_signatures import SignaturesViewSet
from software.api_uploads import UploadViewSet
from test_environments.api import EnvironmentViewSet, ImageViewSet
from test_environments.api_disk import DiskViewSet

router = DefaultRouter(use_regex_path=False)
router.include_format_suffixes = False
router.register("incidents", IncidentViewSet, basename="api-incident")
router.register("problems", ProblemViewSet, basename="api-problem")
router.register("changes", ChangeViewSet, basename="api-change")
router.register("freezes", FreezeViewSet, basename="api-freeze")
router.register("standard-changes", StandardTemplateViewSet, basename="api-standard-change")
router.register("releases", ReleaseViewSet, basename="api-release")
router.register("rollouts", RolloutViewSet, basename="api-rollout")
router.register("deployments", DeploymentViewSet, basename="api-deployment")
router.register("cis", CIViewSet, basename="api-ci")
router.register("ci-groups", CIGroupViewSet, basename="api-ci-group")
router.register("connections", ConnectionViewSet, basename="api-connection")
router.register("ci-classes", CIClassViewSet, basename="api-ci-class")
router.register("agent-profiles", AgentProfileViewSet, basename="api-agent-profile")
router.register("maintenance-windows", MaintenanceWindowViewSet, basename="api-maintenance-window")
router.register("registrations", RegistrationViewSet, basename="api-registration")
router.register("gateway-tokens", GatewayTokenViewSet, basename="api-gateway-token")
router.register("products", ProductViewSet, basename="api-product")
router.register("versions", VersionViewSet, basename="api-version")
router.register("signatures", SignaturesViewSet, basename="api-signatures")
router.register("uploads", UploadViewSet, basename="api-upload")
router.register("components", ComponentViewSet, basename="api-component")
router.register("environments", EnvironmentViewSet, basename="api-environment")
router.register("disks", DiskViewSet, basename="api-disk")
router.register("images", ImageViewSet, basename="api-image")
router.register("notices", NoticeViewSet, basename="api-notice")
router.register("calendar", CalendarViewSet, basename="api-calendar")
router.register("calendar-feeds", CalendarFeedViewSet, basename="api-calendar-feed")
router.register("service-tokens", ServiceTokenViewSet, basename="api-service-token")

v1 = [
    path("login/", api.LoginView.as_view(), name="api-login"),
    path("logout/", api.TokenLogoutView.as_view(), name="api-logout"),
    path("logout-everywhere/", api.TokenLogoutAllView.as_view(), name="api-logout-everywhere"),
    path("me/", api.MeView.as_view(), name="api-me"),
    path("activities/", api.ActivitiesView.as_view(), name="api-activities"),
    path("notice-preferences/", NoticePreferencesView.as_view(), name="api-notice-preferences"),
    *(path(f"reports/{name}/", report_view(name), name=f"api-report-{name}") for name in REPORTS),
    path("deploy/", DeployView.as_view(), name="api-deploy"),
    path("deploy/signing_request/", DeploySigningRequestView.as_view(), name="api-deploy-signing-request"),
    path("chain/<str:number>/", api.ChainView.as_view(), name="api-chain"),
    path("", include(router.urls)),
]

# The reader of the schema brings style attributes and images of its own; scripts come only from this server.
docs_policy = csp_replace(
    {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF, "data:"],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [SELF],
        "frame-ancestors": [NONE],
    }
)

urlpatterns = [
    path("v1/", include(v1)),
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs/", docs_policy(SpectacularSwaggerSplitView.as_view(url_name="api-schema")), name="api-docs"),
    path("<path:rest>", api.UnknownView.as_view(), name="api-unknown"),
]
