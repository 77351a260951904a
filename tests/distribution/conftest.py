from pathlib import Path

import pytest

from cmdb.models import ConfigurationItem
from distribution.models import Batch, Deployment
from software.models import Version
from tests.distribution.device_client import Device
from tests.distribution.fleet import make_batch, make_fleet, queue, stored_version
from tests.factories import make_product, make_version


@pytest.fixture(autouse=True)
def media(settings, tmp_path: Path) -> Path:
    """A media library of the test's own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


@pytest.fixture
def new(db: None) -> Version:
    """Billing 2.0, stored; 1.0 is known too."""
    product = make_product()
    make_version(product, "1.0")
    return stored_version(product, "2.0", size=5000)


@pytest.fixture
def ci(new: Version) -> ConfigurationItem:
    """A CI that runs billing 1.0."""
    return make_fleet(1, new.product, "1.0")[0]


@pytest.fixture
def batch(db: None) -> Batch:
    """An open one."""
    return make_batch()


@pytest.fixture
def deployment(batch: Batch, ci: ConfigurationItem, new: Version) -> Deployment:
    """Billing 2.0 for the CI, waiting."""
    return queue(batch, [ci], new)[0]


@pytest.fixture
def device(ci: ConfigurationItem) -> Device:
    """The CI's device."""
    return Device(ci)
