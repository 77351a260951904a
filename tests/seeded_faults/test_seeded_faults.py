"""Every fault that is planted is found by the test that stands beside it: the tests test something."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.seeded_faults.faults import FAULTS, Fault
from tests.seeded_faults.plugin import FOUND

ROOT = Path(__file__).parents[2]
# How a fault may show; anything else means that it was planted wrongly.
SIGNS = (
    "AssertionError",
    "Failed",
    "IntegrityError",
    "ExceptionGroup",
    "ValueError",
    "MultipleObjectsReturned",
    "DoesNotExist",
    "ConditionRefused",
)


def run(fault: Fault) -> tuple[int, str]:
    """The finder with the fault planted, in a process and a database of its own: exit code and output."""
    base = os.environ.get("TEST_DATABASE_NAME", "test_itsm_portal")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    # A statement breaks the database, so that nobody else may use it afterwards.
    database = f"{base}_faulty_{worker}" if fault.statement else f"{base}_faults_{worker}"
    keep = "--create-db" if fault.statement else "--reuse-db"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-x",
        "-p",
        "tests.seeded_faults.plugin",
        keep,
        "--timeout",
        "800",
        fault.finder,
    ]
    left_out = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")
    env = {key: value for key, value in os.environ.items() if key not in left_out}
    env |= {"SEEDED_FAULT": fault.name, "TEST_DATABASE_NAME": database}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault: Fault) -> None:
    code, said = run(fault)
    assert code == 1, said[-4000:]
    found = re.findall(rf"{FOUND} (\S+?): (\w+):", said)
    assert found, said[-4000:]
    finder = fault.finder.rpartition("::")[2]
    assert all(test.startswith(finder) and sign in SIGNS for test, sign in found), said[-4000:]


def test_every_fault_has_a_name_of_its_own_and_a_test_that_exists() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 12
    for fault in FAULTS:
        path, _, name = fault.finder.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), fault.finder
