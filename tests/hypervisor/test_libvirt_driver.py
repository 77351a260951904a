"""The libvirt driver keeps the contract of all drivers, with real machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hypervisor.benches import libvirt_bench
from tests.hypervisor.scenes import Golden
from tests.test_environments.driver_contract import Bench, DriverContract


@pytest.fixture
def bench(place: Path, tmp_path: Path, golden: Golden) -> Iterator[Bench]:
    with libvirt_bench(place, tmp_path, golden) as bench:
        yield bench


class TestLibvirt(DriverContract):
    """All of them."""
