from tests.releases.conftest import media, world

__all__ = ["media", "world"]
