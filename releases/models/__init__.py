from releases.models.release import (
    LeftOutChange,
    PackageItem,
    Release,
    ReleaseApproval,
    ReleaseEntry,
    TestPolicy,
)
from releases.models.rollout import Rollout, RolloutEvent, RolloutException, Verdict, Wave
from releases.models.test_run import TestRun

__all__ = [
    "LeftOutChange",
    "PackageItem",
    "Release",
    "ReleaseApproval",
    "ReleaseEntry",
    "Rollout",
    "RolloutEvent",
    "RolloutException",
    "TestPolicy",
    "TestRun",
    "Verdict",
    "Wave",
]
