"""The verbs of test environments and golden images, for pages, API, the test gate and the runner."""

from test_environments.services.environments import (
    begin_apply,
    destroy_environment,
    end_apply,
    fail_environment,
    request_environment,
    retry_environment,
    revert_environment,
    snapshot_environment,
    start_environment,
    stop_environment,
)
from test_environments.services.images import (
    approve_image,
    delete_image,
    fail_image,
    request_image,
    retry_image,
)
from test_environments.services.leases import extend_environment, renew_by_use
from test_environments.services.receptions import medium_with, order_reception, revoke_reception
from test_environments.services.sources import check_source
from test_environments.services.ticking import HOST_LOCK, advance_test_environments, is_host_running
from test_environments.services.uploads import begin_disk_upload, write_disk_piece

__all__ = [
    "HOST_LOCK",
    "advance_test_environments",
    "approve_image",
    "begin_apply",
    "begin_disk_upload",
    "check_source",
    "delete_image",
    "destroy_environment",
    "end_apply",
    "extend_environment",
    "fail_environment",
    "fail_image",
    "is_host_running",
    "medium_with",
    "order_reception",
    "renew_by_use",
    "request_environment",
    "request_image",
    "retry_environment",
    "retry_image",
    "revert_environment",
    "revoke_reception",
    "snapshot_environment",
    "start_environment",
    "stop_environment",
    "write_disk_piece",
]
