from django.apps import AppConfig


class TestEnvironmentsConfig(AppConfig):
    name = "test_environments"
