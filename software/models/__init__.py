"""The definitive media library, split by topic."""

from software.models.library import Artifact, Format, Product, Version, artifact_path, format_of
from software.models.sbom import Component, Sbom
from software.models.signatures import KeySet, ReleaseManifest, RollbackDecision
from software.models.upload import Upload

__all__ = [
    "Artifact",
    "Component",
    "Format",
    "KeySet",
    "Product",
    "ReleaseManifest",
    "RollbackDecision",
    "Sbom",
    "Upload",
    "Version",
    "artifact_path",
    "format_of",
]
