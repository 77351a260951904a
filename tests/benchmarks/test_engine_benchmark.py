"""The engine's benchmark runs, so small that its times mean nothing: it plays rollouts to their ends, with nothing that
breaks an invariant, in a number of statements that does not grow with the fleet.
"""

import json
import subprocess
import sys

import pytest
from django.conf import settings

# A step of these takes as many statements in ten times the fleet. Where people are told, there are as many as people.
STEPS = ("freeze", "tick", "verdict", "after the end", "queueing back", "abort")
KINDS = {"freezing", "opening", "running", "verdict", "tickets", "after the end", "abort", "rollback"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_engine_benchmark_plays_both_fleets_to_their_ends() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.engine", "--cis", "1200", "--seconds", "300"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["benchmark"], found["cis"], found["is_complete"]) == ("engine", [120, 1200], True)
    assert {"overhead_ratio_cpu", "overhead_ratio_wall", "tick_ms_median", "tick_ms_max", "growth"} <= found.keys()
    small, large = found["stages"]
    assert large["ticks"].keys() == KINDS
    assert found["longest_tick_ms"] >= found["tick_ms_max"] == large["ticks"]["running"]["longest_ms"] > 0
    assert [stage["floor"]["steps"] for stage in found["stages"]] == [5 * 120, 5 * 1200]
    assert large["steps"] >= 6 * 1200
    for step in STEPS:
        assert large["parts"][step]["most_statements"] <= small["parts"][step]["most_statements"] + 10, step
