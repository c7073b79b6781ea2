"""Releases that this worker has loaded: fetched and checked in a thread, offered when ready."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas.encoder_releases import EncoderRelease, EncoderReleases
from schemas.errors import ReleaseError, StoreError
from schemas.manifest import check_not_older
from streams.releases.encoder import Encoder
from streams.releases.metrics import LIVE, LIVE_REFUSED, LOAD_SECONDS, REFUSED

__all__ = ["Fetch", "Offered", "Standing"]

log = structlog.get_logger()

RETRY_S = 30.0  # a store may be away for a while
AWAY_S = 600.0  # so long a store may be away until its releases are given up
MOST_LOADED = 8  # those in a role, and those that running waves are pinned to


class Fetch(Protocol):
    """What `Fetcher.fetch` does."""

    def __call__(
        self, name: str, release: EncoderRelease, *, live: str | None, rollback: bool
    ) -> Encoder:
        """Fetch, verify and open a release; raises ReleaseError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Labels (name@version) of an encoder's releases by role, those that are loaded alone.

    Attributes
    ----------
    live
        What new waves are decided with: the announced one, or the last good one while that is
        not loaded or was refused. In a worker that has just started, the last good one is the
        release that was live before. None where that was rolled back, and what it was rolled
        back to is refused.
    withdrawn
        What was rolled back, where what it was rolled back to is refused: it decides no new wave.
    """

    live: str | None = None
    shadow: str | None = None
    previous: str | None = None
    withdrawn: str | None = None

    def labels(self) -> frozenset[str]:
        """Every release in a role."""
        return frozenset(filter(None, (self.live, self.shadow, self.previous)))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A release that is not loaded, though it is wanted."""

    since: float  # by the monotonic clock
    again_at: float
    reason: str
    unfit: bool  # it failed a check: only a new step changes that


class Offered:
    """What the announcements ask for, loaded one by one beside the worker's own work.

    A release that fails a check is refused with its reason in the log and a metric, and tried
    again later; the last good one goes on serving. No look-up waits for a release that is being
    fetched, and all are safe from any thread.

    Parameters
    ----------
    fetch
        `Fetcher.fetch`, or the like.
    retry_s
        Seconds until what was refused is tried again.
    away_s
        Seconds until a release whose store is away is given up.
    """

    def __init__(self, fetch: Fetch, retry_s: float = RETRY_S, away_s: float = AWAY_S) -> None:
        self._fetch = fetch
        self._retry_s = retry_s
        self._away_s = away_s
        self._announced: dict[str, EncoderReleases] = {}
        self._loaded: dict[str, Encoder] = {}  # by label
        self._standing: dict[str, Standing] = {}
        # Labels that running waves and pairs ask for: since when they wait for it.
        self._asked: dict[str, float] = {}
        self._refused: dict[str, Refusal] = {}  # by label
        self._older: dict[str, str] = {}  # by encoder: why what is announced does not go live
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="encoder-releases", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def stop(self) -> None:
        """Load nothing more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take(self, name: str, announced: EncoderReleases | None) -> None:
        """An announcement came; None where it was deleted: what is loaded goes on serving."""
        with self._changed:
            known = self._announced.get(name)
            if announced is None or (known is not None and announced.step < known.step):
                return
            self._announced[name] = announced
            self._refused = {  # an operator's step may be the cure: look again at once
                label: held for label, held in self._refused.items() if not _of(label, name)
            }
            now = time.monotonic()
            self._asked = {
                label: now if _of(label, name) else since for label, since in self._asked.items()
            }
            self._settle(name, announced)  # what is loaded waits for no other's fetch
            self._changed.notify()

    def standing(self, name: str) -> Standing:
        """Which loaded releases of an encoder stand in which role."""
        return self._standing.get(name, Standing())

    def encoder(self, label: str) -> Encoder | None:
        """A release by its label; None while it is not loaded, which this asks for."""
        found = self._loaded.get(label)
        if found is None and label not in self._asked:
            with self._changed:
                self._asked[label] = time.monotonic()
                self._changed.notify()
        return found

    @property
    def loaded(self) -> frozenset[str]:
        """Labels of the releases that are loaded."""
        with self._changed:
            return frozenset(self._loaded)

    def refusals(self) -> dict[str, str]:
        """Why releases that are wanted were refused, by label."""
        with self._changed:
            older = {self._announced_live(name): reason for name, reason in self._older.items()}
            return older | {label: held.reason for label, held in self._refused.items()}

    def stands_in(self, label: str) -> str | None:
        """The last good release of the same encoder, where this one is given up; else None."""
        live = self.standing(label.partition("@")[0]).live
        return live if live != label and label in self.given_up() else None

    def unserved(self, names: Iterable[str]) -> str | None:
        """Why this worker cannot decide with these encoders; None where it can with all.

        That nothing was promoted yet is no worker's fault.
        """
        with self._changed:
            for name in sorted(names):
                announced = self._announced.get(name)
                if announced is None or announced.live is None or self.standing(name).live:
                    continue
                label = self._announced_live(name)
                held = self._refused.get(label)
                return f"no release of encoder {name} serves: " + (
                    f"{label} is being loaded" if held is None else f"{label}: {held.reason}"
                )
        return None

    def given_up(self) -> frozenset[str]:
        """Labels of the wanted releases that failed a check, or that were waited for in vain.

        A store that is away for a moment is waited for, and who announces a release.
        """
        late = time.monotonic() - self._away_s
        with self._changed:
            unfit = {
                label for label, held in self._refused.items() if held.unfit or held.since < late
            }
            asked = {label for label, since in self._asked.items() if since < late}
            return frozenset(unfit | (asked - self._loaded.keys()))

    def _announced_live(self, name: str) -> str:
        return f"{name}@{self._announced[name].live}"

    def _run(self) -> None:
        while (wanted := self._wait_for_wanted()) is not None:
            self._load(*wanted)

    def _wait_for_wanted(self) -> tuple[str, EncoderRelease, EncoderReleases] | None:
        """The next release to load; None at the end."""
        with self._changed:
            while not self._ended:
                wanted = self._next_wanted()
                if wanted is not None:
                    return wanted
                self._changed.wait(self._pause_s())
        return None

    def _pause_s(self) -> float | None:
        times = [held.again_at for held in self._refused.values()]
        return max(min(times) - time.monotonic(), 0.0) + 0.01 if times else None

    def _next_wanted(self) -> tuple[str, EncoderRelease, EncoderReleases] | None:
        now, wanted = time.monotonic(), set()
        for name, announced in self._announced.items():
            roles = filter(None, (announced.live, announced.previous, announced.shadow))
            asked = [label.partition("@")[2] for label in self._asked if _of(label, name)]
            for version in dict.fromkeys([*roles, *asked]):
                label = f"{name}@{version}"
                wanted.add(label)
                refused = self._refused.get(label)
                if label in self._loaded or (refused is not None and refused.again_at > now):
                    continue
                release = next((r for r in announced.releases if r.version == version), None)
                if release is not None:
                    return name, release, announced
                self._put_off(label, "it is not announced any more", unfit=False)
        # What nobody asks for any more is not tried again.
        self._refused = {label: held for label, held in self._refused.items() if label in wanted}
        return None

    def _load(self, name: str, release: EncoderRelease, announced: EncoderReleases) -> None:
        label, started = f"{name}@{release.version}", time.monotonic()
        served = self.standing(name).live
        becomes_live = release.version == announced.live
        try:
            encoder = self._fetch(
                name,
                release,
                live=served.partition("@")[2] if served and becomes_live else None,
                rollback=announced.rollback,
            )
        except ReleaseError as error:
            self._refuse(label, str(error), unfit=not isinstance(error, StoreError))
            return
        except Exception as error:  # whatever it was: the last good one goes on serving
            log.exception("encoder_loading_failed", release=label)
            self._refuse(label, f"{type(error).__name__}: {error}", unfit=False)
            return
        LOAD_SECONDS.labels(label).set(time.monotonic() - started)
        with self._changed:  # what is spare goes as this comes
            self._refused.pop(label, None)
            self._loaded[label] = encoder
            self._settle(name, self._announced[name])
        log.info("encoder_loaded", release=label, seconds=round(time.monotonic() - started, 2))

    def _put_off(self, label: str, reason: str, *, unfit: bool) -> Refusal | None:
        """Try a release again later; gives why that was done before."""
        before, now = self._refused.get(label), time.monotonic()
        self._refused[label] = Refusal(
            since=now if before is None else before.since,
            again_at=now + self._retry_s,
            reason=reason,
            unfit=unfit,
        )
        return before

    def _refuse(self, label: str, reason: str, *, unfit: bool) -> None:
        with self._changed:
            before = self._put_off(label, reason, unfit=unfit)
            name, _, version = label.partition("@")
            self._settle(name, self._announced[name])
        REFUSED.labels(name, version).inc()
        if before is None or before.reason != reason:
            log.error("encoder_refused", release=label, why=reason)

    def _settle(self, name: str, announced: EncoderReleases) -> None:
        """Offer what is loaded in the roles that it has now."""

        def loaded(version: str | None) -> str | None:
            label = f"{name}@{version}"
            return label if version is not None and label in self._loaded else None

        before = self.standing(name)
        last_good = None if announced.live is None else before.live
        withdrawn = self._withdrawn(name, announced, before)
        if last_good == withdrawn:
            last_good = None
        if last_good is None and not announced.rollback and self._refuses_live(name):
            last_good = loaded(announced.previous)
        live = None if self._is_older(name, announced, before.live) else loaded(announced.live)
        standing = Standing(
            live=live or last_good,
            shadow=loaded(announced.shadow),
            previous=loaded(announced.previous),
            withdrawn=withdrawn,
        )
        if standing != before:
            self._standing[name] = standing
            for label in {before.live, standing.live} - {None}:
                LIVE.labels(label).set(label == standing.live)
            log.info("encoder_offered", encoder=name, live=standing.live, shadow=standing.shadow)
        refused = name in self._older or self._refuses_live(name)
        LIVE_REFUSED.labels(name).set(refused)
        self._drop()

    def _withdrawn(self, name: str, announced: EncoderReleases, before: Standing) -> str | None:
        """What was rolled back, as long as what is live instead is refused, or tried once more."""
        back = f"{name}@{announced.previous}"
        if not announced.rollback or self._announced_live(name) in self._loaded:
            return None
        return back if self._refuses_live(name) or before.withdrawn == back else None

    def _refuses_live(self, name: str) -> bool:
        return self._announced_live(name) in self._refused

    def _is_older(self, name: str, announced: EncoderReleases, served: str | None) -> bool:
        """Whether what is announced as live is older than what is, and no rollback: refused."""
        before, reason = self._older.pop(name, None), None
        if announced.live is not None and served is not None and not announced.rollback:
            try:
                check_not_older(name, announced.live, served.partition("@")[2])
            except ReleaseError as error:
                reason = self._older[name] = str(error)
        if reason is not None and reason != before:
            REFUSED.labels(name, announced.live).inc()
            log.error("encoder_refused", release=self._announced_live(name), why=reason)
        return reason is not None

    def _drop(self) -> None:
        """Let go of the oldest that nothing announced needs any more."""
        kept = {label for standing in self._standing.values() for label in standing.labels()}
        spare = [label for label in self._loaded if label not in kept]
        for label in spare[: max(len(self._loaded) - MOST_LOADED, 0)]:
            del self._loaded[label]
            self._asked.pop(label, None)


def _of(label: str, name: str) -> bool:
    return label.partition("@")[0] == name
