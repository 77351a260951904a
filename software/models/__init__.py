"""The definitive media library, split by topic."""

from software.models.library import Artifact, Format, Product, Version, artifact_path, format_of
from software.models.signatures import KeySet, ReleaseManifest, RollbackDecision

__all__ = [
    "Artifact",
    "Format",
    "KeySet",
    "Product",
    "ReleaseManifest",
    "RollbackDecision",
    "Version",
    "artifact_path",
    "format_of",
]
