"""Removing what drivers hold and no row speaks of: what a killed destruction, or a lost row, has left."""

from collections.abc import Callable

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import DriverError
from test_environments.drivers.interface import Driver
from test_environments.models import GoldenImage, TestEnvironment

REAP_SECONDS = 900.0


def reap(driver: Driver, bound: Bound, say: Callable[[str], None]) -> int:
    """Destroys the orphans of one driver; returns how many are gone. Environments before their images.

    First the driver's list, then the rows: a row is always written before its thing is made, so nothing that is being
    made can look like an orphan.
    """
    try:
        owned = driver.list_owned(bound)
    except DriverError as error:
        say(f"reaper: {driver.name}: {error}")
        return 0
    living = set(TestEnvironment.objects.unfinished().values_list("uuid", flat=True))
    living |= set(GoldenImage.objects.unfinished().values_list("uuid", flat=True))
    gone = 0
    for thing in sorted(owned, key=lambda owned: owned.what != "environment"):
        if thing.uuid in living:
            continue
        try:
            if thing.what == "environment":
                driver.destroy(thing.uuid, bound)
            else:
                driver.delete_image(thing.uuid, bound)
        except DriverError as error:
            say(f"reaper: {thing.what} {thing.uuid} of nobody stays: {error}")
            continue
        gone += 1
        say(f"reaper: {thing.what} {thing.uuid} of nobody is removed")
    return gone
