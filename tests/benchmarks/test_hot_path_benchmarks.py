"""The benchmarks of the hot path run, so small that their times mean nothing; their counts have to be exact."""

import json
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def run(name: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *arguments],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["benchmark"] == name
    return found


def test_poll_measures_the_bare_view_and_the_poll_at_each_size() -> None:
    found = run("poll", "--cis", "40", "--requests", "20")
    assert [stage["cis"] for stage in found["stages"]] == [40]
    assert found["stages"][0]["bare_cpu_ms"] > 0
    assert found["ratio"] > 0


def test_herd_serves_everybody_and_counts_exactly() -> None:
    found = run("herd", "--cis", "40", "--updates", "25", "--spread", "2")
    assert (found["polls"]["done"], found["updates"]["done"]) == (40, 25)
    assert set(found["updates"]["counts"].values()) == {25}
    for part in ("polls", "updates"):
        assert found[part]["errors"] == {}
        assert found[part]["failures"] == 0
        assert found[part]["pages"]["troubles"] == []
