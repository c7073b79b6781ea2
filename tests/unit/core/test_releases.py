"""How releases change: each step is allowed by what stands, and says what it returns to."""

import pytest

from schemas.encoder_releases import MOST_RELEASES, EncoderRelease, EncoderReleases
from schemas.errors import ReleaseError
from streams.core.releases import end_shadow, promote, publish, rollback, shadow


def release(version: str, digit: str = "0") -> EncoderRelease:
    return EncoderRelease(
        version=version, sha256=digit * 64, model_bytes=1, signer="s", published_at_ms=0
    )


def published(*versions: str) -> EncoderReleases:
    releases = None
    for now_ms, version in enumerate(versions):
        releases = publish(releases, "people", release(version), now_ms)
    assert releases is not None
    return releases


def roles(releases: EncoderReleases) -> tuple[str | None, str | None, str | None]:
    return releases.live, releases.shadow, releases.previous


def test_a_release_is_published_into_no_role():
    releases = published("1.0.0", "1.1.0")
    assert [each.version for each in releases.releases] == ["1.0.0", "1.1.0"]
    assert roles(releases) == (None, None, None)
    assert releases.step == 2


def test_the_first_release_is_promoted_at_once_and_the_next_from_its_shadow():
    first = promote(published("1.0.0", "1.1.0"), "1.0.0", 5)
    assert roles(first) == ("1.0.0", None, None)
    with pytest.raises(ReleaseError, match=r"not in shadow.*encoder shadow people 1\.1\.0"):
        promote(first, "1.1.0", 6)
    warm = shadow(first, "1.1.0", 6)
    assert roles(warm) == ("1.0.0", "1.1.0", None)
    assert roles(promote(warm, "1.1.0", 7)) == ("1.1.0", None, "1.0.0")


def test_a_rollback_returns_to_what_was_live_before_and_says_that_it_is_one():
    live = promote(published("1.0.0", "1.1.0"), "1.0.0", 5)
    live = promote(shadow(live, "1.1.0", 6), "1.1.0", 7)
    back = rollback(live, 8)
    assert roles(back) == ("1.0.0", None, "1.1.0")
    assert back.rollback
    assert (back.step, back.changed_at_ms) == (live.step + 1, 8)
    forth = shadow(back, "1.1.0", 9)
    assert forth.rollback  # a worker that was away sees this step alone
    assert not promote(forth, "1.1.0", 10).rollback


def test_nothing_older_than_what_is_live_comes_back_but_by_a_rollback():
    live = promote(published("1.0.0", "1.10.0"), "1.10.0", 5)
    for step in (shadow, promote):
        with pytest.raises(ReleaseError, match=r"older than 1\.10\.0|not in shadow"):
            step(live, "1.0.0", 6)
    with pytest.raises(ReleaseError, match="nothing to return to"):
        rollback(live, 6)


def test_the_same_release_again_changes_nothing_and_another_of_its_version_is_refused():
    before = published("1.0.0")
    assert publish(before, "people", release("1.0.0"), 9) is before
    with pytest.raises(ReleaseError, match="under a new version"):
        publish(before, "people", release("1.0.0", "f"), 9)


def test_what_is_in_use_is_announced_however_old_it_is():
    releases = promote(published("1.0.0"), "1.0.0", 5)
    for minor in range(1, 2 * MOST_RELEASES):
        releases = publish(releases, "people", release(f"1.{minor}.0"), minor)
    versions = [each.version for each in releases.releases]
    assert len(versions) == MOST_RELEASES
    assert versions[0] == "1.0.0"
    assert versions[-1] == f"1.{2 * MOST_RELEASES - 1}.0"


def test_a_release_that_is_live_is_no_shadow_and_a_shadow_can_end():
    live = promote(published("1.0.0", "1.1.0"), "1.0.0", 5)
    with pytest.raises(ReleaseError, match="own shadow"):
        shadow(live, "1.0.0", 6)
    with pytest.raises(ReleaseError, match="live already"):
        promote(live, "1.0.0", 6)
    assert end_shadow(shadow(live, "1.1.0", 6), 7).shadow is None


def test_what_was_not_published_has_no_role():
    with pytest.raises(ReleaseError, match=r"no release 9\.9\.9"):
        promote(published("1.0.0"), "9.9.9", 5)
    with pytest.raises(ReleaseError, match="live is 2"):
        EncoderReleases(
            name="people", step=1, releases=[release("1.0.0")], changed_at_ms=0, live="2.0.0"
        )
