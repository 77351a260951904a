from releases.models.decision import FailureDecision
from releases.models.generation import PlanGeneration
from releases.models.probe import ProbeSample
from releases.models.release import (
    LeftOutChange,
    PackageItem,
    Release,
    ReleaseApproval,
    ReleaseEntry,
    TestPolicy,
)
from releases.models.rollout import Rollout, ran_between
from releases.models.rollout_log import RolloutEvent, RolloutException
from releases.models.self_check import SelfCheck
from releases.models.test_run import TestPeriod, TestRun
from releases.models.wave import Verdict, Wave

__all__ = [
    "FailureDecision",
    "LeftOutChange",
    "PackageItem",
    "PlanGeneration",
    "ProbeSample",
    "Release",
    "ReleaseApproval",
    "ReleaseEntry",
    "Rollout",
    "RolloutEvent",
    "RolloutException",
    "SelfCheck",
    "TestPeriod",
    "TestPolicy",
    "TestRun",
    "Verdict",
    "Wave",
    "ran_between",
]
