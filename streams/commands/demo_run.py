"""The demo's course: broker, topics, workers, company, a campaign's waves; and their end."""

import dataclasses
import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Self

from confluent_kafka.admin import AdminClient, NewTopic

from schemas.campaign import Campaign
from schemas.errors import GroundswellError, TopicError
from schemas.learning import LearningExample, WaveReport
from schemas.records import Decision, Reward
from schemas.topics import (
    LEARNING_EXAMPLES,
    REWARDS,
    SEND_DECISIONS,
    SHARD_CHANGELOG,
    WAVE_REPORTS,
    Topic,
)
from schemas.wire import Codec
from streams.agents.state import profile_key
from streams.app import shape_of
from streams.commands.campaign_file import read_campaign
from streams.commands.demo_encoder import release_sample, trusting
from streams.commands.demo_screen import Screen
from streams.kafka.broker import EmbeddedKafka
from streams.kafka.campaign_client import CampaignClient
from streams.kafka.cluster import Cluster
from streams.kafka.provision import describe_topics, ensure_topics
from streams.kafka.read import follow
from streams.kafka.transaction import Incoming
from streams.settings import Settings, load_settings
from streams.simulation.children import Children
from streams.simulation.outcome import Outcome
from streams.simulation.wave_figures import CampaignLog, WaveFigures
from streams.simulation.world import Company

__all__ = ["DemoOptions", "DemoRun"]

SOURCES = {"company-events": 3, "company-feedback": 2}  # partitions: the company's own choice
OURS = (
    *("result.json", "report.html", "reward_per_send.*", "template_shares.*"),
    *("company.log", "worker-*.log", "kafka.log"),
)
TOPICS_S = 30.0
IMPORT_S = 120.0
STALLED_S = 30.0  # beyond a wave's deadline
TAIL_S = 15.0
STILL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the command was given."""

    seed: int
    waves: int
    workers: int
    people: int
    out: Path
    encoder: bool


class DemoRun:
    """One demo. What it starts ends with it, whatever happens.

    Parameters
    ----------
    screen
        Told how it goes.
    """

    def __init__(self, options: DemoOptions, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._seconds: dict[str, float] = {}

    def run(self) -> Outcome:
        """Run it from the broker's start to the last wave's end.

        Raises
        ------
        GroundswellError
            If a process of it ended, or nothing moves on.
        """
        options = self._options
        options.out.mkdir(parents=True, exist_ok=True)
        for stale in (path for name in OURS for path in options.out.glob(name)):
            stale.unlink()  # of the demo before
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="groundswell-")))
            kafka = EmbeddedKafka(folder / "kafka", die_with_parent=True)
            stack.callback(_keep_log, folder / "kafka" / "node-1" / "broker.log", options.out)
            stack.callback(kafka.stop)
            children = Children(options.out)
            stack.callback(children.stop)
            stack.callback(_let_nothing_interrupt)
            settings = _settings(kafka.bootstrap)
            children.start("company", _company(options, folder, kafka.bootstrap), _CHILD)
            with _Founding(options) as founding, self._phase("Kafka starts"):
                kafka.start()
            with self._phase("topics are made"):
                _make_topics(settings)
            for number in range(1, options.workers + 1):
                children.start(
                    f"worker-{number}",
                    ["-m", "streams", "worker"],
                    _worker(settings, folder, number, trusting() if options.encoder else {}),
                )
            self._await_profiles(settings, children)
            return self._campaign(settings, children, founding.company(), folder)

    @contextmanager
    def _phase(self, name: str) -> Iterator[Callable[[str], None]]:
        began = time.monotonic()
        with self._screen.phase(name) as say:
            yield say
        self._seconds[name] = time.monotonic() - began

    def _await_profiles(self, settings: Settings, children: Children) -> None:
        """Wait until the shards' committed state has a profile of everyone."""
        people = self._options.people
        prefix, known = profile_key(""), set[bytes]()
        deadline = time.monotonic() + IMPORT_S
        with (
            self._phase("people are imported") as say,
            closing(_records(settings, SHARD_CHANGELOG)) as records,
        ):
            while len(known) < people:
                children.check()
                known.update(r.key for r in _some(records) if r.key and r.key.startswith(prefix))
                say(f"{len(known):,} of {people:,} profiles")
                if time.monotonic() > deadline:
                    raise GroundswellError(
                        f"only {len(known)} of {people} people have a profile after "
                        f"{IMPORT_S:g} s: see the logs in {self._options.out}"
                    )

    def _campaign(
        self, settings: Settings, children: Children, company: Company, folder: Path
    ) -> Outcome:
        campaign = _read_campaign(self._options.waves)
        if self._options.encoder:
            with self._phase("encoder is released"):
                campaign = dataclasses.replace(campaign, encoder=release_sample(settings))
        log = CampaignLog(company, campaign.reward_weights)
        topics = (WAVE_REPORTS, SEND_DECISIONS, LEARNING_EXAMPLES, REWARDS)
        with closing(_records(settings, *topics)) as records:
            reading = _Reading(records, log, children)
            client = CampaignClient(Cluster(settings.bootstrap), settings.topic_prefix)
            with self._phase("campaign is applied"):
                client.apply(campaign, campaign.changed_at_ms)
            waves = [self._wave(number, campaign, reading) for number in range(campaign.waves)]
            with self._phase("the company stops"):
                children.stop("company")
            reading.take()  # what came late corrects what was closed
        truth = json.loads((folder / "truth.json").read_text())
        sent: dict[str, int] = {}
        for kinds in truth["feedback"].values():
            for kind, count in kinds.items():
                sent[kind] = sent.get(kind, 0) + count
        return Outcome(
            waves=waves,
            sent=sent,
            counted=dict(log.feedback()),
            repeated=log.repeated,
            false_propensities=log.false_propensities(),
            seconds=dict(self._seconds),
        )

    def _wave(self, number: int, campaign: Campaign, reading: "_Reading") -> WaveFigures:
        """Follow a wave until it has ended and all of its outcomes are read."""
        began = time.monotonic()
        deadline = began + campaign.wave_deadline_ms / 1000 + STALLED_S
        expected = round(self._options.people / campaign.waves)
        with self._screen.wave(number + 1, campaign.waves, expected) as show:
            while not (reading.has_ended(number) and reading.has_all(number)):
                reading.take()
                show.progress(*reading.log.counts(number), reading.log.answers(number))
                if reading.has_ended(number):
                    deadline = min(deadline, time.monotonic() + TAIL_S)
                if time.monotonic() > deadline:
                    raise GroundswellError(
                        f"wave {number + 1} does not end: see the logs in {self._options.out}"
                    )
            figures = reading.log.figures(number)
            show.end(figures)
        self._seconds[f"wave {number + 1}"] = time.monotonic() - began
        return figures


class _Reading:
    """What has been read of the campaign."""

    def __init__(
        self, records: Iterator[Incoming | None], log: CampaignLog, children: Children
    ) -> None:
        self.log = log
        self._records = records
        self._codec = Codec()
        self._children = children
        self._reports: dict[int, WaveReport] = {}

    def take(self) -> None:
        """Read what has come."""
        self._children.check()
        for record in _some(self._records):
            if record.topic.endswith(SEND_DECISIONS.name):
                self.log.decided(self._codec.decode(record.value, Decision))
            elif record.topic.endswith(LEARNING_EXAMPLES.name):
                self.log.learned(self._codec.decode(record.value, LearningExample))
            elif record.topic.endswith(REWARDS.name):
                self.log.answered(self._codec.decode(record.value, Reward))
            else:
                report = self._codec.decode(record.value, WaveReport)
                self._reports[report.wave] = report

    def has_ended(self, wave: int) -> bool:
        """Whether a wave's report says that it has ended."""
        report = self._reports.get(wave)
        return report is not None and report.ended_at_ms is not None

    def has_all(self, wave: int) -> bool:
        """Whether all of a wave's decisions and outcomes have been read."""
        report = self._reports[wave]
        closed = sum(tally.closed for tally in report.tallies)
        decided, outcomes = self.log.counts(wave)
        return decided >= report.decided and outcomes >= closed


class _Founding:
    """Founds the company, which takes a second, while the broker starts."""

    def __init__(self, options: DemoOptions) -> None:
        self._options = options
        self._company: Company | None = None
        self._thread = threading.Thread(target=self._found, name="founding", daemon=True)

    def _found(self) -> None:
        self._company = Company.create(self._options.seed, self._options.people)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to itself: `company` waits for it."""

    def company(self) -> Company:
        """Give the company."""
        self._thread.join()
        assert self._company is not None
        return self._company


_CHILD = {"OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _settings(bootstrap: str) -> Settings:
    return load_settings(
        bootstrap=bootstrap,
        replication=1,
        min_insync=1,
        event_sources="company-events",
        reward_sources="company-feedback",
        topic_prefix="",
    )


def _worker(
    settings: Settings, folder: Path, number: int, more: Mapping[str, str]
) -> dict[str, str]:
    """Give a worker its variables."""
    given = {
        "replication": settings.replication,
        "min_insync": settings.min_insync,
        "event_sources": settings.event_sources,
        "reward_sources": settings.reward_sources,
        "topic_prefix": settings.topic_prefix,
        "data_dir": folder / f"worker-{number}",
        "instance": f"demo-{number}",
        **more,
    }
    own = {f"GROUNDSWELL_{name.upper()}": str(value) for name, value in given.items()}
    return {**_CHILD, **Cluster(settings.bootstrap).environment(), **own}


def _company(options: DemoOptions, folder: Path, bootstrap: str) -> list[str]:
    return [
        *("-m", "streams.simulation.company_process"),
        *("--bootstrap", bootstrap),
        *("--seed", str(options.seed)),
        *("--people", str(options.people)),
        *("--truth", str(folder / "truth.json")),
    ]


def _make_topics(settings: Settings) -> None:
    admin = AdminClient(Cluster(settings.bootstrap).client({"log_level": 2}))
    new = [NewTopic(name, partitions, 1) for name, partitions in SOURCES.items()]
    for made in admin.create_topics(new, operation_timeout=TOPICS_S).values():
        made.result()
    deadline = time.monotonic() + TOPICS_S
    while len(describe_topics(admin, list(SOURCES))) < len(SOURCES):  # made, but not to be seen yet
        if time.monotonic() > deadline:
            raise TopicError(f"topics {', '.join(SOURCES)} do not appear after {TOPICS_S:g} s")
        time.sleep(0.05)
    ensure_topics(admin, shape_of(settings))


def _read_campaign(waves: int) -> Campaign:
    with as_file(files("streams.simulation") / "demo_campaign.yaml") as path:
        return dataclasses.replace(read_campaign(path, int(time.time() * 1000)), waves=waves)


def _records(settings: Settings, *topics: Topic) -> Generator[Incoming | None]:
    names = [settings.topic_prefix + topic.name for topic in topics]
    return follow(Cluster(settings.bootstrap), names, from_beginning=True)


def _some(records: Iterator[Incoming | None]) -> Iterator[Incoming]:
    """Give what has come, for as long as the screen may stand still."""
    until = time.monotonic() + STILL_S
    for record in records:
        if record is None:
            return
        yield record
        if time.monotonic() > until:
            return


def _keep_log(log: Path, out: Path) -> None:
    if log.exists():
        shutil.copyfile(log, out / "kafka.log")


def _let_nothing_interrupt() -> None:
    """What was begun to stop is stopped; what hangs is killed after a while."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
