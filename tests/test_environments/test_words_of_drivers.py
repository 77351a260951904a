"""Rows and drivers use the same words: what a driver says can be stored, and what is stored a driver understands."""

from enum import StrEnum

import pytest
from django.db.models import TextChoices

from test_environments.drivers import interface
from test_environments.models import GoldenImage, TestEnvironment


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (TestEnvironment.Evidence, interface.Evidence),
        (TestEnvironment.Power, interface.Power),
        (TestEnvironment.Clone, interface.Clone),
        (TestEnvironment.Network, interface.NetworkMode),
        (GoldenImage.Kind, interface.Kind),
        (GoldenImage.Consistency, interface.Consistency),
        (GoldenImage.Conversion, interface.Conversion),
    ],
)
def test_rows_and_drivers_use_the_same_words_in_the_same_order(stored: type[TextChoices], said: type[StrEnum]) -> None:
    assert stored.values == [str(word) for word in said]
