"""Settings for every profile; production is the default and refuses what is missing or wrong."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
import pghistory
from csp.constants import NONCE, NONE, SELF

from itsm_portal import environment
from itsm_portal.schedule import beat_schedule
from itsm_portal.settings_api import (  # noqa: F401 - settings, too
    CHAIN,
    DRF_STANDARDIZED_ERRORS,
    IDEMPOTENCY_HOURS,
    REST_FRAMEWORK,
    REST_KNOX,
    SPECTACULAR_SETTINGS,
)

BASE_DIR = Path(__file__).resolve().parent.parent
PROFILE = environment.profile()
PRODUCTION = PROFILE == "production"
DATA_DIR = environment.folder("DATA_DIR", default=BASE_DIR / ".data")
if PRODUCTION:
    environment.unset("FAILPOINTS", hint="It ends processes on purpose, for tests.")

# --- Secrets and servers ------------------------------------------------------------------------------------------
DEBUG = environment.flag("DEBUG", default=PROFILE == "development") and not PRODUCTION
SECRET_KEY = (
    environment.secret_key() if PRODUCTION else "not-secret: only for development, demo and tests on this machine"
)
# 10.0.2.2 is what a virtual machine calls its host.
LOCAL_HOSTS = "127.0.0.1,localhost,[::1],10.0.2.2,testserver"
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", default="" if PRODUCTION else LOCAL_HOSTS)
if PRODUCTION and not ALLOWED_HOSTS:
    environment.required("ALLOWED_HOSTS", hint="Name the portal's host names, separated by commas.")
CSRF_TRUSTED_ORIGINS = environment.words("CSRF_TRUSTED_ORIGINS")

_database_url = environment.url(
    "DATABASE_URL",
    schemes=environment.DATABASE_SCHEMES,
    hint="Example: postgres://user:password@127.0.0.1:5432/itsm_portal. Without a server use `make run`.",
)
REDIS_URL = environment.url(
    "REDIS_URL",
    schemes=environment.REDIS_SCHEMES,
    hint="Example: redis://:password@127.0.0.1:6379/0. Without a server use `make run`.",
)
_statement_timeout_ms = environment.number("STATEMENT_TIMEOUT_MS", default=30_000, least=100)
DATABASES = {
    "default": {
        **environ.Env.db_url_config(_database_url),
        "ENGINE": "django.db.backends.postgresql",
        # Each thread keeps its connection: nobody waits for another's, and none is looked for at each request. Some
        # minutes, so that what a connection has cached does not grow for ever.
        "CONN_MAX_AGE": 0 if PROFILE == "test" else 600,
        "OPTIONS": {
            # What is prepared is planned once, not for each value: the statements of `cmdb.prepared` name one CI.
            "options": f"-c statement_timeout={_statement_timeout_ms} -c lock_timeout=10000 -c timezone=UTC"
            " -c plan_cache_mode=force_generic_plan",
            "application_name": "itsm_portal",
            # Only for the statements of `cmdb.prepared`. Off for poolers that give each transaction another connection.
            "prepare_threshold": 0 if environment.flag("DATABASE_PREPARE", default=True) else None,
        },
        "TEST": {"NAME": environment.os.environ.get("TEST_DATABASE_NAME", "test_itsm_portal")},
    }
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Applications -------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "itsm_portal",
    "releases",
    "changes",
    "problems",
    "incidents",
    "test_environments",
    "distribution",
    "cmdb",
    "software",
    "tickets",
    "notifications",
    "accounts",
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "django_fsm",
    "django_htmx",
    "django_tables2",
    "django_filters",
    "crispy_forms",
    "crispy_bootstrap5",
    "csp",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "pgtrigger",
    "pghistory",
]
MIDDLEWARE = [
    # Devices go no further than this.
    "itsm_portal.middleware.DeviceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "itsm_portal.middleware.ReaderMiddleware",
    "pghistory.middleware.HistoryMiddleware",
    "itsm_portal.middleware.DomainErrorMiddleware",
]
ROOT_URLCONF = "itsm_portal.urls"
WSGI_APPLICATION = "itsm_portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "itsm_portal.context_processors.frame",
            ],
        },
    }
]
CRISPY_ALLOWED_TEMPLATE_PACKS = "bootstrap5"
CRISPY_TEMPLATE_PACK = "bootstrap5"

# --- People -------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "accounts.adapter.ClosedSignupAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
# Limits by account and by source, counted in the cache.
ACCOUNT_RATE_LIMITS = {"login": "60/m/ip", "login_failed": "10/m/ip,5/5m/key"}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
if PROFILE == "test":
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# --- Language and time --------------------------------------------------------------------------------------------
LANGUAGE_CODE = environment.os.environ.get("LANGUAGE_CODE", "").strip() or "en"
# In their own words, so that each person finds his.
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "itsm_portal.formats"
USE_THOUSAND_SEPARATOR = True
TIME_ZONE = "UTC"

# --- Files --------------------------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = environment.folder("STATIC_ROOT", default=BASE_DIR / "staticfiles")
STATICFILES_DIRS = [BASE_DIR / "static"]
FILE_SYSTEM = "django.core.files.storage.FileSystemStorage"
STORAGES = {
    "default": {"BACKEND": FILE_SYSTEM},
    # The media library's files; any storage of Django's API. Files arrive in MEDIA_ROOT first.
    "artifacts": {"BACKEND": environment.os.environ.get("ARTIFACT_STORAGE", FILE_SYSTEM)},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = PROFILE == "development"
MEDIA_ROOT = environment.folder("MEDIA_ROOT", default=DATA_DIR / "media")
ATTACHMENT_MAX_BYTES = environment.number("ATTACHMENT_MAX_BYTES", default=10 * 1024**2, least=1)
ARTIFACT_MAX_BYTES = environment.number("ARTIFACT_MAX_BYTES", default=4 * 1024**3, least=1)
# Retention: files younger than so many days are kept anyway (0: for ever), and so many of each product.
LIBRARY_KEEP_DAYS = environment.number("LIBRARY_KEEP_DAYS", default=0, least=0)
LIBRARY_KEEP_VERSIONS = environment.number("LIBRARY_KEEP_VERSIONS", default=3, least=1)
# Public root keys (hex) of those who sign software; the portal trusts the key sets that they signed and owns no key.
SIGNING_ROOT_KEYS = environment.words("SIGNING_ROOT_KEYS")
SIGNING_ROOT_THRESHOLD = environment.number("SIGNING_ROOT_THRESHOLD", default=1, least=1)
# Nothing unsigned is offered, and no rollout starts without its signed ways back.
REQUIRE_SIGNATURES = environment.flag("REQUIRE_SIGNATURES", default=PROFILE in {"production", "demo"})
# Folders of production CIs that an administrator may name as sources of copies lie below this one.
TEST_ENVIRONMENT_SOURCES = environment.folder("TEST_ENVIRONMENT_SOURCES", default=DATA_DIR / "fleet")
TEST_ENVIRONMENT_ROOT = environment.folder("TEST_ENVIRONMENT_ROOT", default=DATA_DIR / "copies")
# Which web processes and test host share: capture media on their way out, uploaded disk images on their way in.
TEST_ENVIRONMENT_EXCHANGE = environment.folder("TEST_ENVIRONMENT_EXCHANGE", default=DATA_DIR / "disks")
TEST_ENVIRONMENT_UPLOAD_MAX_BYTES = environment.number(
    "TEST_ENVIRONMENT_UPLOAD_MAX_BYTES", default=64 * 1024**3, least=1
)
# Where the test host takes the disks of physical machines: 192.0.2.10:8443-8450; empty: nowhere.
TEST_ENVIRONMENT_RECEIVER = environment.ports("TEST_ENVIRONMENT_RECEIVER")
# A zipapp of the update agent for copies; empty: the one in this checkout.
TEST_ENVIRONMENT_AGENT = environment.os.environ.get("TEST_ENVIRONMENT_AGENT", "")
# Which drivers the test host opens; none replaces another. `libvirt` needs its Python module and a hypervisor.
_DRIVERS: dict[str, dict[str, Any]] = {
    "file_copy": {
        "class": "test_environments.drivers.file_copy.driver.FileCopy",
        "options": {"agent": TEST_ENVIRONMENT_AGENT},
    },
    "libvirt": {
        "class": "test_environments.drivers.libvirt.driver.Libvirt",
        "folder": environment.folder("TEST_ENVIRONMENT_MACHINES", default=TEST_ENVIRONMENT_ROOT / "libvirt"),
        "options": {
            "uri": environment.os.environ.get("TEST_ENVIRONMENT_LIBVIRT_URI", "qemu:///embed"),
            "accelerator": environment.os.environ.get("TEST_ENVIRONMENT_ACCELERATOR", "tcg"),
        },
    },
}
TEST_ENVIRONMENT_DRIVERS = {
    name: _DRIVERS[name]
    for name in environment.choices("TEST_ENVIRONMENT_DRIVERS", allowed=tuple(_DRIVERS), default="file_copy")
}
# The leases of a copy that nobody uses: running, then kept; images without a copy are deleted after so many days.
TEST_ENVIRONMENT_RUN_HOURS = environment.number("TEST_ENVIRONMENT_RUN_HOURS", default=72, least=1)
TEST_ENVIRONMENT_KEEP_HOURS = environment.number("TEST_ENVIRONMENT_KEEP_HOURS", default=336, least=1)
TEST_ENVIRONMENT_RETAIN_DAYS = environment.number("TEST_ENVIRONMENT_RETAIN_DAYS", default=90, least=1)
# Hosts (`host` or `host:port`) that the probes of rollouts may call; nothing else is ever called.
PROBE_HOSTS = environment.words("PROBE_HOSTS")
# Where the portal's own processes and the copies' agents reach the portal.
PORTAL_URL = environment.os.environ.get("PORTAL_URL", "http://127.0.0.1:8000").rstrip("/")

# --- Mail ---------------------------------------------------------------------------------------------------------
MAIL_FOLDER = None if PRODUCTION else environment.folder("MAIL_FOLDER", default=DATA_DIR / "mail")
DEFAULT_FROM_EMAIL = environment.os.environ.get("DEFAULT_FROM_EMAIL", "ITSM portal <portal@example.org>")
MESSAGE_ID_DOMAIN = urlsplit(PORTAL_URL).hostname or "localhost"
EMAIL_TIMEOUT = 10
if environment.os.environ.get("EMAIL_URL"):
    vars().update(environ.Env.email_url_config(environment.os.environ["EMAIL_URL"]))
elif PRODUCTION:
    environment.required("EMAIL_URL", hint="Example: smtp+tls://user:password@mail.example.org:587")
else:
    EMAIL_BACKEND = "notifications.mailfolder.EmailBackend"

# --- The clock: Celery beat ticks, rows remember -----------------------------------------------------------------
TICK_SECONDS = environment.number("TICK_SECONDS", default=1 if PROFILE == "demo" else 2, least=1)
CELERY_BROKER_URL = environment.os.environ.get("CELERY_BROKER_URL", REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_TIME_LIMIT = 60
CELERY_TASK_SOFT_TIME_LIMIT = 50
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 60,
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "retry_on_timeout": True,
    "health_check_interval": 10,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = beat_schedule(TICK_SECONDS)
# Plays take minutes: workers of their own take them, so that ticks never wait.
CELERY_TASK_ROUTES = {"distribution.tasks.run_push": {"queue": "push"}}

# --- Watching ------------------------------------------------------------------------------------------------------
# Who asks for /metrics without having signed in sends this as a bearer token; empty: only people who have signed in.
METRICS_TOKEN = environment.token("METRICS_TOKEN")

# --- Agents -------------------------------------------------------------------------------------------------------
DDI_TENANT = "DEFAULT"
DDI_POLL_SECONDS = environment.number("DDI_POLL_SECONDS", default=1 if PROFILE in {"demo", "test"} else 300, least=1)
# Polls that a process answers at the same time; the rest is sent away with 429. Less than its threads, so that reports
# always find one.
DDI_PARALLEL_POLLS = environment.number("DDI_PARALLEL_POLLS", default=10, least=1)
# Polls are sent away, too, while more requests than this wait for one of its threads.
DDI_WAITING = environment.number("DDI_WAITING", default=32, least=0)
# Files that a process sends itself at the same time; each keeps one of its threads. Tests do not read what they fetch.
DDI_PARALLEL_DOWNLOADS = environment.number("DDI_PARALLEL_DOWNLOADS", default=1000 if PROFILE == "test" else 4, least=1)
# The internal location of the proxy that sends files of MEDIA_ROOT, such as /artifacts/; empty: the portal sends them.
X_ACCEL_LOCATION = environment.location("X_ACCEL_LOCATION")
# Where devices fetch files with signed links: a mirror, a content delivery network, or the portal's own /downloads.
DOWNLOAD_URL = environment.os.environ.get("DOWNLOAD_URL", "").rstrip("/")
DOWNLOAD_KEY = environment.download_key(DOWNLOAD_URL)
DOWNLOAD_SECONDS = environment.number("DOWNLOAD_SECONDS", default=86_400, least=60)
# How often each process writes when it saw which device; 0: never by itself.
LAST_SEEN_SECONDS = 0 if PROFILE == "test" else 5
# Polls that a process answers at ease; above it, idle devices are told to sleep longer, in steps.
DDI_POLLS_PER_SECOND = environment.number("DDI_POLLS_PER_SECOND", default=9999 if PROFILE == "test" else 200, least=1)
# How devices may prove who they are: target_token, gateway_token, certificate.
DDI_AUTHENTICATION = environment.choices(
    "DDI_AUTHENTICATION", allowed=("target_token", "gateway_token", "certificate"), default="target_token"
)
# Only from these addresses or networks (“unix”: a socket) the headers about a device's certificate are believed.
DDI_CERTIFICATE_PROXIES = environment.networks("DDI_CERTIFICATE_PROXIES")
DDI_CERTIFICATE_NAME_HEADER = environment.os.environ.get("DDI_CERTIFICATE_NAME_HEADER", "X-Controller-Id")
DDI_CERTIFICATE_AUTHORITY_HEADERS = environment.words("DDI_CERTIFICATE_AUTHORITY_HEADERS", default="X-Authority")
TRUSTED_PROXIES = environment.words("TRUSTED_PROXIES")

# --- Hosts without an agent ---------------------------------------------------------------------------------------
# Fernet keys for the credentials in the database; the first encrypts, all decrypt.
CREDENTIAL_KEYS = environment.fernet_keys(
    "CREDENTIAL_KEYS", default="" if PRODUCTION else "bm90LXNlY3JldDogZm9yIHRlc3RzIGFuZCBhIGRlbW8="
)
PUSH_FOLDER = environment.folder("PUSH_FOLDER", default=DATA_DIR / "push")
PUSH_BATCH = environment.number("PUSH_BATCH", default=20, least=1)
PUSH_RUNS = environment.number("PUSH_RUNS", default=4, least=1)
PUSH_FORKS = environment.number("PUSH_FORKS", default=5, least=1)
PUSH_TIMEOUT_SECONDS = environment.number("PUSH_TIMEOUT_SECONDS", default=3600, least=60)
# Whether the worker's own machine may be a host: whoever manages CIs then runs software with the worker's rights.
PUSH_ALLOW_LOCAL = environment.flag("PUSH_ALLOW_LOCAL", default=not PRODUCTION)

# --- Security -----------------------------------------------------------------------------------------------------
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
if PRODUCTION:
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = environment.flag("SECURE_SSL_REDIRECT", default=True)
    # Devices on plain HTTP inside a plant network must not be sent away by a redirect (they do not follow it on POST).
    SECURE_REDIRECT_EXEMPT = [r"^[^/]+/controller/v1/", r"^healthz$", r"^readyz$"]
    SECURE_HSTS_SECONDS = environment.number("SECURE_HSTS_SECONDS", default=31_536_000, least=0)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = environment.flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=True)
    SECURE_HSTS_PRELOAD = environment.flag("SECURE_HSTS_PRELOAD", default=True)
    if TRUSTED_PROXIES:
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        # Otherwise every failed login counts against the proxy, and one attacker locks everybody out.
        ALLAUTH_TRUSTED_PROXY_COUNT = 1
CONTENT_SECURITY_POLICY = {
    # The admin and the API's docs have policies of their own: itsm_portal.admin, itsm_portal.api_urls.
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [SELF],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    },
}
PGHISTORY_CREATED_AT_FUNCTION = "CLOCK_TIMESTAMP()"
PGHISTORY_OBJ_FIELD = pghistory.ObjForeignKey(related_name="history")
PGHISTORY_APPEND_ONLY = True
# Triggers are put in place after each `migrate`; as operations of migrations they would render every model again.
PGTRIGGER_MIGRATIONS = False
PGTRIGGER_INSTALL_ON_MIGRATE = True

# --- Logs ---------------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": environment.os.environ.get("LOG_LEVEL", "INFO")},
    "loggers": {
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "pgtrigger": {"level": "WARNING"},
        # Whoever sends another host's name gets 400; a traceback for each would fill the disk.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "httpx": {"level": "WARNING"},
    },
}

UNFOLD = {"SITE_TITLE": "ITSM portal", "SITE_HEADER": "ITSM portal", "SITE_URL": "/"}
