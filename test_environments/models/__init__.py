from test_environments.models.copy_source import CopySource, NeutralisingRecipe
from test_environments.models.disk_reception import DiskReception
from test_environments.models.environment import TestEnvironment
from test_environments.models.golden_image import GoldenImage
from test_environments.models.records import EnvironmentConsole, EnvironmentEvent, EnvironmentSnapshot

__all__ = [
    "CopySource",
    "DiskReception",
    "EnvironmentConsole",
    "EnvironmentEvent",
    "EnvironmentSnapshot",
    "GoldenImage",
    "NeutralisingRecipe",
    "TestEnvironment",
]
