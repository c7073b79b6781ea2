"""The company as one process beside the workers: its event source and its sender.

Run as ``python -m streams.simulation.company_process``; it ends on SIGTERM.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog
from confluent_kafka.admin import AdminClient

from schemas.errors import TopicError
from streams.logs import log_to_stderr
from streams.simulation.sender import Answers, run_sender
from streams.simulation.source import run_source
from streams.simulation.world import Company

__all__ = ["main"]

log = structlog.get_logger()

TOPICS_S = 60.0


def main() -> int:
    """Run the company until it is asked to stop, or a part of it fails; the exit code."""
    given = _arguments()
    log_to_stderr()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    company = Company.create(given.seed, given.people)
    answers = Answers(company, np.random.default_rng((given.seed, 2)))
    failed = threading.Event()

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception:
                log.exception("company_failed")
                failed.set()
                stop.set()

        return run

    threads = [
        threading.Thread(target=guarded(work), name=name)
        for name, work in {
            "source": lambda: run_source(
                company.people,
                given.seed,
                stop,
                bootstrap=given.bootstrap,
                topic=given.events_topic,
                events_per_s=given.events_per_s,
            ),
            "sender": lambda: run_sender(
                answers,
                stop,
                bootstrap=given.bootstrap,
                group=given.group,
                decisions_topic=given.decisions_topic,
                feedback_topic=given.feedback_topic,
                truth=given.truth,
            ),
        }.items()
    ]
    _await_topics(given.bootstrap, [given.events_topic, given.decisions_topic], stop)
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # with a timeout, so that signals are handled
    return int(failed.is_set())


def _await_topics(bootstrap: str, topics: list[str], stop: threading.Event) -> None:
    admin = AdminClient(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,  # the broker may still be starting
            "reconnect.backoff.max.ms": 200,
        }
    )
    deadline = time.monotonic() + TOPICS_S
    while not stop.is_set():
        try:
            there = admin.list_topics(timeout=1).topics
        except Exception:  # noqa: BLE001 - asked again
            there = {}
        if all(topic in there for topic in topics):
            return
        if time.monotonic() > deadline:
            raise TopicError(
                f"no topics {', '.join(topics)} at {bootstrap} after {TOPICS_S:g} s: make them"
            )
        stop.wait(0.1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--people", type=int, required=True)
    parser.add_argument("--truth", type=Path, required=True, help="file for what was sent")
    parser.add_argument("--events-topic", default="company-events")
    parser.add_argument("--feedback-topic", default="company-feedback")
    parser.add_argument("--decisions-topic", default="send-decisions")
    parser.add_argument("--group", default="company-sender", help="the sender's consumer group")
    parser.add_argument("--events-per-s", type=float, default=40.0)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
