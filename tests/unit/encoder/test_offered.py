"""Releases are loaded beside the worker's work, and the last good one goes on serving."""

import threading
import time
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from schemas.encoder_releases import EncoderRelease, EncoderReleases
from schemas.errors import ReleaseError, StoreError
from streams.releases.offered import MOST_LOADED, Offered, Standing


class Shop:
    """Stands where releases are fetched: gives, refuses, or waits."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.fetched: list[tuple[str, str | None, bool]] = []
        self.open = threading.Event()
        self.open.set()

    def fetch(self, name, release, *, live, rollback):
        self.open.wait(10)
        self.fetched.append((release.version, live, rollback))
        if release.version in self.refused:
            raise ReleaseError(self.refused[release.version])
        return SimpleNamespace(version=f"{name}@{release.version}", z_size=2)


def announced(step: int, *versions: str, **roles) -> EncoderReleases:
    return EncoderReleases(
        name="people",
        step=step,
        releases=[
            EncoderRelease(
                version=version,
                sha256="0" * 64,
                model_bytes=1,
                signer="team",
                published_at_ms=0,
            )
            for version in versions
        ],
        changed_at_ms=0,
        **roles,
    )


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def offered(shop):
    offered = Offered(shop.fetch)
    offered.start()
    yield offered
    offered.stop()


def eventually(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_role_is_offered_when_its_release_is_loaded(offered):
    assert offered.standing("people") == Standing()
    offered.take("people", announced(1, "1.0.0", "1.1.0", live="1.0.0", shadow="1.1.0"))
    due = Standing(live="people@1.0.0", shadow="people@1.1.0")
    eventually(lambda: offered.standing("people") == due)
    assert offered.encoder("people@1.1.0").version == "people@1.1.0"


def test_no_look_up_waits_for_a_release_that_is_being_loaded(offered, shop):
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    shop.open.clear()
    offered.take("people", announced(2, "1.0.0", "2.0.0", live="2.0.0", previous="1.0.0"))
    assert offered.encoder("people@2.0.0") is None
    assert offered.standing("people").live == "people@1.0.0"
    shop.open.set()
    due = Standing(live="people@2.0.0", previous="people@1.0.0")
    eventually(lambda: offered.standing("people") == due)


def test_the_last_good_release_serves_where_the_new_one_is_refused(offered, shop):
    shop.refused["2.0.0"] = "its signature is nobody's"
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    offered.take("people", announced(2, "1.0.0", "2.0.0", live="2.0.0", previous="1.0.0"))
    eventually(lambda: offered.refusals() == {"people@2.0.0": "its signature is nobody's"})
    assert offered.standing("people").live == "people@1.0.0"
    assert offered.encoder("people@1.0.0") is not None


def test_a_refusal_is_counted_and_the_live_release_is_told_to_prometheus(offered, shop):
    def counted() -> float:
        labels = {"encoder": "people", "version": "3.0.0"}
        return REGISTRY.get_sample_value("groundswell_encoder_refused_total", labels) or 0.0

    before = counted()
    shop.refused["3.0.0"] = "a golden profile is encoded otherwise"
    offered.take("people", announced(1, "1.0.0", "3.0.0", live="1.0.0", shadow="3.0.0"))
    eventually(lambda: counted() == before + 1)
    eventually(lambda: offered.standing("people").live is not None)
    live = REGISTRY.get_sample_value("groundswell_encoder_live", {"release": "people@1.0.0"})
    assert live == 1.0


def test_a_refused_release_is_looked_at_again_with_the_next_step(offered, shop):
    shop.refused["1.0.0"] = "flipped"
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(offered.refusals)
    shop.refused.clear()
    offered.take("people", announced(2, "1.0.0", live="1.0.0"))
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    assert offered.refusals() == {}


def test_a_refused_release_is_tried_again_after_a_while(shop):
    shop.refused["1.0.0"] = "the store is away"
    offered = Offered(shop.fetch, retry_s=0.05)
    offered.start()
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(offered.refusals)
    shop.refused.clear()
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    offered.stop()


def test_the_check_of_age_knows_what_served_before_and_whether_it_is_a_rollback(offered, shop):
    offered.take("people", announced(1, "2.0.0", live="2.0.0"))
    eventually(lambda: offered.standing("people").live == "people@2.0.0")
    roles = {"live": "1.0.0", "previous": "2.0.0", "rollback": True}
    offered.take("people", announced(2, "1.0.0", "2.0.0", **roles))
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    assert shop.fetched == [("2.0.0", None, False), ("1.0.0", "2.0.0", True)]


def test_an_announcement_older_than_the_known_one_changes_nothing(offered):
    offered.take("people", announced(5, "1.0.0", live="1.0.0"))
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    offered.take("people", announced(4, "0.9.0", live="0.9.0"))
    offered.take("people", None)
    time.sleep(0.05)
    assert offered.standing("people") == Standing(live="people@1.0.0")


def test_a_release_that_a_running_wave_is_pinned_to_is_loaded_though_it_has_no_role(offered):
    offered.take("people", announced(1, "1.0.0", "2.0.0", live="2.0.0"))
    eventually(lambda: offered.standing("people").live is not None)
    assert offered.encoder("people@1.0.0") is None
    eventually(lambda: offered.encoder("people@1.0.0") is not None)
    assert offered.standing("people") == Standing(live="people@2.0.0")


def test_at_no_moment_are_more_than_a_few_releases_loaded(offered):
    versions = [f"1.{number}.0" for number in range(20)]
    offered.take("people", announced(1, *versions, live="1.0.0"))
    for version in versions:
        offered.encoder(f"people@{version}")
    most = []

    def last_is_loaded() -> bool:
        most.append(len(offered.loaded))
        return offered.encoder("people@1.19.0") is not None

    eventually(last_is_loaded)
    most.append(len(offered.loaded))
    assert max(most) <= MOST_LOADED
    assert offered.encoder("people@1.0.0") is not None


def test_what_is_older_than_the_live_one_goes_live_by_a_rollback_alone(offered):
    both = {"live": "2.0.0", "previous": "1.0.0"}
    offered.take("people", announced(1, "1.0.0", "2.0.0", **both))
    due = Standing(live="people@2.0.0", previous="people@1.0.0")
    eventually(lambda: offered.standing("people") == due)
    back = {"live": "1.0.0", "previous": "2.0.0"}
    offered.take("people", announced(2, "1.0.0", "2.0.0", **back))
    assert offered.standing("people").live == "people@2.0.0"
    assert "older than 2.0.0" in offered.refusals()["people@1.0.0"]
    offered.take("people", announced(3, "1.0.0", "2.0.0", **back, rollback=True))
    assert offered.standing("people").live == "people@1.0.0"
    assert offered.refusals() == {}


def test_a_rollback_to_what_is_loaded_waits_for_no_fetch(offered, shop):
    both = {"live": "2.0.0", "previous": "1.0.0"}
    offered.take("people", announced(1, "1.0.0", "2.0.0", **both))
    eventually(lambda: offered.standing("people").live == "people@2.0.0")
    eventually(lambda: offered.standing("people").previous == "people@1.0.0")
    shop.open.clear()
    offered.take("other", announced(1, "3.0.0", live="3.0.0"))
    back = {"live": "1.0.0", "previous": "2.0.0", "rollback": True}
    offered.take("people", announced(2, "1.0.0", "2.0.0", **back))
    assert offered.standing("people").live == "people@1.0.0"
    shop.open.set()


@pytest.mark.parametrize(("away_s", "given_up"), [(60.0, set()), (0.0, {"people@2.0.0"})])
def test_a_release_whose_store_is_away_is_given_up_after_a_while(shop, away_s, given_up):
    def away(_name, release, *, live, rollback):
        if release.version == "1.0.0":
            return SimpleNamespace(version="people@1.0.0", z_size=2)
        raise StoreError(f"no answer {live} {rollback}")

    offered = Offered(away, away_s=away_s)
    offered.start()
    offered.take("people", announced(1, "1.0.0", "2.0.0", live="2.0.0", previous="1.0.0"))
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    assert set(offered.refusals()) == {"people@2.0.0"}
    assert offered.given_up() == given_up
    assert offered.stands_in("people@2.0.0") == ("people@1.0.0" if given_up else None)
    offered.stop()


def test_a_release_that_nobody_announces_is_given_up_after_a_while(shop):
    offered = Offered(shop.fetch, away_s=0.05)
    offered.start()
    assert offered.encoder("people@1.0.0") is None
    assert offered.given_up() == frozenset()
    eventually(lambda: offered.given_up() == {"people@1.0.0"})
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(lambda: offered.encoder("people@1.0.0") is not None)
    time.sleep(0.06)
    assert offered.given_up() == frozenset()
    offered.stop()


def test_how_long_a_store_is_away_is_counted_from_the_first_try(shop):
    tries = []

    def away(_name, _release, *, live, rollback):
        tries.append((live, rollback))
        raise StoreError("no answer")

    offered = Offered(away, retry_s=0.05, away_s=0.2)
    offered.start()
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(lambda: offered.given_up() == {"people@1.0.0"})
    assert len(tries) > 1
    offered.take("people", announced(2, "1.0.0", live="1.0.0"))
    assert offered.given_up() == frozenset()  # a step may be the cure
    offered.stop()


def test_a_release_that_fails_a_check_is_given_up_at_once(offered, shop):
    shop.refused["1.0.0"] = "its signature is nobody's"
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(lambda: offered.given_up() == {"people@1.0.0"})


def test_a_release_that_is_not_announced_any_more_is_given_up_after_a_while(shop):
    offered = Offered(shop.fetch, away_s=0.0)
    offered.start()
    offered.take("people", announced(1, "2.0.0", live="2.0.0"))
    assert offered.encoder("people@1.0.0") is None
    eventually(lambda: offered.given_up() == {"people@1.0.0"})
    eventually(lambda: "not announced" in offered.refusals().get("people@1.0.0", ""))
    offered.stop()


def test_what_nobody_foresaw_refuses_the_release_and_not_the_worker(shop):
    def broken(_name, _release, *, live, rollback):
        raise ZeroDivisionError(f"of all things, {live} {rollback}")

    offered = Offered(broken)
    offered.start()
    offered.take("people", announced(1, "1.0.0", live="1.0.0"))
    eventually(offered.refusals)
    assert offered.refusals() == {"people@1.0.0": "ZeroDivisionError: of all things, None False"}
    offered.stop()


def refused_here(name: str = "people") -> float | None:
    return REGISTRY.get_sample_value("groundswell_encoder_live_refused", {"encoder": name})


def test_a_worker_that_starts_with_a_live_release_it_refuses_serves_the_one_before(offered, shop):
    shop.refused["2.0.0"] = "its signature is nobody's"
    offered.take("people", announced(2, "1.0.0", "2.0.0", live="2.0.0", previous="1.0.0"))
    eventually(lambda: offered.standing("people").live == "people@1.0.0")
    assert offered.stands_in("people@2.0.0") == "people@1.0.0"
    assert offered.stands_in("people@1.0.0") is None
    assert offered.unserved({"people"}) is None
    assert refused_here() == 1.0
    shop.refused.clear()
    offered.take("people", announced(3, "1.0.0", "2.0.0", live="2.0.0", previous="1.0.0"))
    due = Standing(live="people@2.0.0", previous="people@1.0.0")
    eventually(lambda: offered.standing("people") == due)
    assert offered.stands_in("people@2.0.0") is None
    assert refused_here() == 0.0


def test_what_was_rolled_back_from_never_stands_in(offered, shop):
    shop.refused["1.0.0"] = "its signature is nobody's"
    roles = {"live": "1.0.0", "previous": "2.0.0", "rollback": True}
    offered.take("people", announced(3, "1.0.0", "2.0.0", **roles))
    eventually(lambda: "people@2.0.0" in offered.loaded)
    due = Standing(previous="people@2.0.0", withdrawn="people@2.0.0")
    eventually(lambda: offered.standing("people") == due)
    assert offered.stands_in("people@1.0.0") is None
    assert "people@1.0.0: its signature" in offered.unserved({"people"})


def test_a_worker_that_runs_goes_on_with_nothing_that_was_rolled_back(offered, shop):
    shop.refused["1.0.0"] = "one byte is another"
    offered.take("people", announced(2, "1.0.0", "2.0.0", live="2.0.0", previous="1.0.0"))
    eventually(lambda: offered.standing("people").live == "people@2.0.0")
    roles = {"live": "1.0.0", "previous": "2.0.0", "rollback": True}
    offered.take("people", announced(3, "1.0.0", "2.0.0", **roles))
    due = Standing(previous="people@2.0.0", withdrawn="people@2.0.0")
    eventually(lambda: offered.standing("people") == due)
    assert "people@1.0.0: one byte is another" in offered.unserved({"people"})
    assert offered.encoder("people@2.0.0") is not None  # for waves that are pinned to it
    shop.open.clear()  # a step has it fetched again: meanwhile, too
    offered.take("people", announced(4, "1.0.0", "2.0.0", "3.0.0", **roles))
    assert offered.standing("people") == due
    shop.refused.clear()
    shop.open.set()
    due = Standing(live="people@1.0.0", previous="people@2.0.0")
    eventually(lambda: offered.standing("people") == due)


def test_a_worker_tells_why_it_cannot_decide_with_an_encoder(offered, shop):
    assert offered.unserved({"people"}) is None  # nothing was announced
    offered.take("people", announced(1, "1.0.0"))
    assert offered.unserved({"people"}) is None  # nothing was promoted
    shop.open.clear()
    shop.refused["1.0.0"] = "raise GROUNDSWELL_ENCODER_MB"
    offered.take("people", announced(2, "1.0.0", live="1.0.0"))
    assert "people@1.0.0 is being loaded" in offered.unserved({"people"})
    assert offered.unserved({"animals"}) is None
    shop.open.set()
    due = "no release of encoder people serves: people@1.0.0: raise GROUNDSWELL_ENCODER_MB"
    eventually(lambda: offered.unserved({"people"}) == due)
    assert refused_here() == 1.0
