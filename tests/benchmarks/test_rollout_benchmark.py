"""The rollout benchmark runs, with a fleet so small that its figures mean nothing, and says what it has to say."""

import json
import subprocess
import sys

import pytest
from django.conf import settings

FIGURES = {
    "deployment_cpu_ms",
    "poll_cpu_ms",
    "poll_cpu_ratio",
    "tick_ms",
    "tick_ms_per_ci",
    "tick_per_ci_ratio",
    "queries",
    "seconds",
}
# Upper bounds, so that a query more in a place that runs for each CI does not go unnoticed.
QUERIES = {
    "poll": 1,
    "deployment": 2,
    "report": 2,
    "artifact": 4,
    "report closed": 2,
    "attributes": 9,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_rollout_benchmark_rolls_out_to_every_ci_and_ends_with_its_figures_as_json() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.rollout", "--cis", "60", "--seconds", "240"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found.keys() >= FIGURES
    assert found["benchmark"] == "rollout"
    assert found["sizes"] == [12, 24, 60]
    assert found["over_http"] == [11, 23, 59]
    assert found["is_complete"]
    assert all(found[name] > 0 for name in FIGURES - {"queries"})
    # Only so many downloads run at once; the others are told to come back, and do.
    assert all(stage["troubles"].keys() <= {"sent away (429)"} for stage in found["stages"])
    assert found["queries"].keys() == QUERIES.keys()
    assert {kind: count for kind, count in found["queries"].items() if count > QUERIES[kind]} == {}
