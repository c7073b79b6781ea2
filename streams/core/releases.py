"""How an encoder's releases change: published, into shadow, promoted, rolled back; each a step.

A release comes into shadow first, where the learner builds its policy on it; `promote` makes it
live in one step; `rollback` returns to the one that was live before, which went on learning.
"""

import dataclasses

from schemas.encoder_releases import MOST_RELEASES, EncoderRelease, EncoderReleases
from schemas.errors import ReleaseError
from schemas.manifest import check_not_older

__all__ = ["end_shadow", "promote", "publish", "rollback", "shadow"]


def publish(
    before: EncoderReleases | None, name: str, release: EncoderRelease, now_ms: int
) -> EncoderReleases:
    """Announce a release; the same one again changes nothing.

    Of more than `MOST_RELEASES` the oldest that are not in use are no longer announced.

    Raises
    ------
    ReleaseError
        If there is another one of this version: a version never changes.
    """
    if before is None:
        return EncoderReleases(name=name, step=1, releases=[release], changed_at_ms=now_ms)
    for known in before.releases:
        if known.version == release.version and known.sha256 != release.sha256:
            raise ReleaseError(
                f"{name}@{release.version} was published already, and is another: train under a "
                "new version"
            )
        if known.version == release.version:
            return before
    used = {before.live, before.shadow, before.previous}
    releases = [*before.releases, release]
    for old in before.releases:
        if len(releases) > MOST_RELEASES and old.version not in used:
            releases.remove(old)
    return _step(before, now_ms, releases=releases)


def shadow(before: EncoderReleases, version: str, now_ms: int) -> EncoderReleases:
    """Warm a release up beside the one that is live.

    Raises
    ------
    ReleaseError
        If it was not published, is live, or is older than the one that is.
    """
    before.release(version)
    if version == before.live:
        raise ReleaseError(f"{before.name}@{version} is live: it cannot be its own shadow")
    _check_newer(before, version)
    return _step(before, now_ms, shadow=version)


def end_shadow(before: EncoderReleases, now_ms: int) -> EncoderReleases:
    """Have no release in shadow any more."""
    return _step(before, now_ms, shadow=None)


def promote(before: EncoderReleases, version: str, now_ms: int) -> EncoderReleases:
    """Make a release live: the one in shadow, or the first of all.

    Raises
    ------
    ReleaseError
        If it is neither, or was not published.
    """
    before.release(version)
    if version == before.live:
        raise ReleaseError(f"{before.name}@{version} is live already")
    if before.live is not None and version != before.shadow:
        raise ReleaseError(
            f"{before.name}@{version} is not in shadow: `groundswell encoder shadow {before.name} "
            f"{version}` first, so that policies are warm when it is promoted"
        )
    _check_newer(before, version)
    return _step(before, now_ms, live=version, previous=before.live, shadow=None, rollback=False)


def rollback(before: EncoderReleases, now_ms: int) -> EncoderReleases:
    """Return to the release that was live before.

    Raises
    ------
    ReleaseError
        If there is none.
    """
    if before.previous is None:
        raise ReleaseError(
            f"{before.name} has no release that was live before: nothing to return to"
        )
    return _step(
        before, now_ms, live=before.previous, previous=before.live, shadow=None, rollback=True
    )


def _check_newer(before: EncoderReleases, version: str) -> None:
    if before.live is not None:
        check_not_older(before.name, version, before.live)


def _step(before: EncoderReleases, now_ms: int, **changes: object) -> EncoderReleases:
    """The next step; workers take the newest.

    What is live by a rollback stays so: a worker that was away may see no step but the last.
    """
    return dataclasses.replace(
        before,
        **changes,  # type: ignore[arg-type]
        step=before.step + 1,
        changed_at_ms=now_ms,
    )
