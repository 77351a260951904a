"""The settings of the API and of its description."""

from datetime import timedelta

from itsm_portal import environment

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "knox.auth.TokenAuthentication",
        "accounts.service_tokens.ServiceTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated", "accounts.service_tokens.InScope"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 50,
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "tickets.openapi.Schema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
# How long the answer to a request with an Idempotency-Key is kept.
IDEMPOTENCY_HOURS = environment.number("IDEMPOTENCY_HOURS", default=24, least=1)
REST_KNOX = {
    "TOKEN_TTL": timedelta(hours=environment.number("API_TOKEN_HOURS", default=12, least=1)),
    "AUTO_REFRESH": False,
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "tickets.api_errors.ErrorHandler",
    "EXCEPTION_FORMATTER_CLASS": "tickets.api_errors.ErrorFormatter",
    "ALLOWED_ERROR_STATUS_CODES": ["400", "401", "403", "404", "409", "415", "422", "429"],
    "ERROR_SCHEMAS": dict.fromkeys(
        ["400", "401", "403", "404", "409", "415", "422", "429"], "tickets.openapi.ErrorResponseSerializer"
    ),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ITSM portal API",
    "DESCRIPTION": "Incidents, problems, changes, releases, rollouts, configuration items and software. "
    "Log in at `/api/v1/login/` and send `Authorization: Token …`. What you may not see does not exist (404).",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "Level": "tickets.models.Level",
        "Format": "software.models.Format",
        "Activity": "tickets.activities.Activity",
        "Priority": "tickets.models.Priority",
        "IncidentState": "incidents.models.Incident.State",
        "ProblemState": "problems.models.Problem.State",
        "ChangeState": "changes.models.Change.State",
        "ReleaseState": "releases.models.Release.State",
        "RolloutState": "releases.models.Rollout.State",
        "WaveState": "releases.models.Wave.State",
        "TestRunState": "releases.models.TestRun.State",
        "DeploymentState": "distribution.models.DeploymentState",
        "VersionState": "software.models.Version.State",
        "RegistrationState": "cmdb.models.Registration.State",
        "EnvironmentState": "test_environments.models.TestEnvironment.State",
        "EnvironmentPower": "test_environments.models.TestEnvironment.Power",
        "EnvironmentEvidence": "test_environments.models.TestEnvironment.Evidence",
        "ImageKind": "test_environments.models.GoldenImage.Kind",
        "DiskMethod": "test_environments.models.DiskReception.Method",
        "DiskFormat": "test_environments.models.DiskReception.Format",
        "DiskState": "test_environments.models.DiskReception.State",
        "ImageState": "test_environments.models.GoldenImage.State",
        "ConnectionKind": "cmdb.models.Connection.Kind",
        "NoticeKind": "notifications.kinds.Kind",
        "NoticeMail": "notifications.kinds.Mail",
        "NoticeState": "notifications.models.Outbox.State",
        "HoldReason": "incidents.models.Incident.HoldReason",
        "ProblemCloseCode": "problems.models.Problem.CloseCode",
        "ChangeCloseCode": "changes.models.Change.CloseCode",
        "CalendarKind": "itsm_portal.api_calendar.KIND_CHOICES",
        "ConflictKind": "changes.conflicts.KINDS",
        "ExceptionKind": "releases.models.RolloutException.Kind",
    },
}

# What makes the chain of a ticket: it knows all processes, which the apps of single ones do not.
CHAIN = "itsm_portal.chain.chain_of"
