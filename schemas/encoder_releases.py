"""Where the releases of an encoder are, and which of them decides."""

import re
from dataclasses import dataclass

from schemas.checks import check_name
from schemas.errors import ReleaseError
from schemas.manifest import version_order

__all__ = ["MOST_RELEASES", "EncoderRelease", "EncoderReleases"]

MOST_RELEASES = 32  # announced of an encoder: the newest, and those that are in use


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRelease:
    """A release as announced: nothing here is believed but by what its signed manifest says."""

    version: str
    sha256: str
    model_bytes: int
    signer: str
    published_at_ms: int

    def __post_init__(self) -> None:
        version_order(self.version)
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ReleaseError(f"sha256 must have 64 hex digits, got {self.sha256[:80]!r}")
        if self.model_bytes < 1:
            raise ReleaseError(f"release {self.version} announces {self.model_bytes} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderReleases:
    """All of an encoder's releases, and how they stand. Each change is a step of its own."""

    name: str
    step: int
    releases: list[EncoderRelease]
    changed_at_ms: int
    live: str | None = None
    shadow: str | None = None
    previous: str | None = None
    rollback: bool = False

    def __post_init__(self) -> None:
        check_name("name", self.name)
        versions = [release.version for release in self.releases]
        for role in ("live", "shadow", "previous"):
            version = getattr(self, role)
            if version is not None and version not in versions:
                raise ReleaseError(
                    f"{role} is {version}, which was not published: "
                    f"{', '.join(versions) or 'nothing'} was"
                )

    def release(self, version: str) -> EncoderRelease:
        """A release by its version.

        Raises
        ------
        ReleaseError
            If there is none of that version.
        """
        for release in self.releases:
            if release.version == version:
                return release
        known = ", ".join(release.version for release in self.releases) or "nothing"
        raise ReleaseError(
            f"{self.name} has no release {version}: {known} was published; "
            "see `groundswell encoder list`"
        )
