"""The faults: each does its damage to a deployment under load, and tells what it measured."""

import json
import random
import shutil
import signal
import time
from datetime import datetime

from tests.chaos.driver import Harm
from tests.chaos.feeder import Feeder
from tests.chaos.report import at_least, at_most, seen
from tests.kafka.harness import Deployment, wait_until

EXIT_FENCED = 3


def kills(deployment: Deployment, for_s: float, every_s: tuple[float, float]) -> Harm:
    """`kill -9` one worker after the other, and start it again."""
    rng = random.Random(1)
    until, number = time.monotonic() + for_s, 0
    while time.monotonic() < until:
        time.sleep(rng.uniform(*every_s))
        worker = number % 2
        deployment.assert_alive()
        deployment.kill(worker)
        deployment.start(worker)
        number += 1
    return Harm(number)


def rolling_restarts(deployment: Deployment, times: int, every_s: float) -> Harm:
    """SIGTERM, wait for a clean exit within 25 s, start again, wait until it has its shards."""
    took = []
    for number in range(times):
        time.sleep(every_s)
        deployment.assert_alive()
        worker = number % 2
        opened = deployment.count(worker, "shards_opened")
        started = time.monotonic()
        code = deployment.terminate(worker, 60)
        took.append(time.monotonic() - started)
        assert code == 0, deployment.tail(worker)
        deployment.start(worker)
        deployment.wait_open(worker, times=opened + 1)
    return Harm(times, [at_most("slowest exit after SIGTERM", max(took), "s", 25)])


def freeze(
    deployment: Deployment,
    feeder: Feeder,
    session_s: float,
    backlog: int,
    *,
    times: int = 1,
    least_fenced: int = 0,
) -> Harm:
    """SIGSTOP for twice the session timeout under a backlog, then SIGCONT.

    Two things race in the thawed worker: the commit that it was frozen in, or begins first, is
    fenced, and the process ends; or its heartbeat tells it that it is no member any more, and it
    lets go of its shards before it has committed anything, and joins anew. Either is safe.
    """
    ended, let_go = [], 0
    for _ in range(times):
        frozen = deployment.workers[0]
        feeder.burst(backlog)
        time.sleep(0.3)  # ingest sends on at once, in no transaction: the others work on it now
        frozen.send_signal(signal.SIGSTOP)
        # Counted once nothing is logged any more: another's start may still have moved shards.
        opened = deployment.count(0, "shards_opened")
        time.sleep(2 * session_s)
        thawed = time.time()
        frozen.send_signal(signal.SIGCONT)
        wait_until(
            lambda was=opened, process=frozen: (
                process.poll() is not None or deployment.count(0, "shards_opened") > was
            ),
            60,
            "the thawed worker is fenced, or has joined anew",
        )
        if frozen.poll() is None:
            let_go += 1
            continue
        assert frozen.returncode == EXIT_FENCED, deployment.tail(0)
        ended.append(_time_of(deployment, 0, "fenced") - thawed)
        deployment.start(0)
        deployment.wait_open(0, times=opened + 1)
    return Harm(
        times,
        [
            at_least("thawed workers fenced at their first commit", len(ended), "", least_fenced),
            at_most("slowest of them from thaw to exit", max(ended, default=0.0), "s", 1),
            seen("thawed workers that let go before a commit", let_go, ""),
        ],
    )


def _time_of(deployment: Deployment, worker: int, event: str) -> float:
    """When a worker last logged an event, in seconds since 1970."""
    lines = deployment.log(worker).read_text().splitlines()
    line = next(line for line in reversed(lines) if f'"event": "{event}"' in line)
    return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()


def come_and_go(deployment: Deployment, rounds: int, pause_s: float) -> Harm:
    """Workers 1, 2, 3, 1: nobody ends who was not asked to."""
    took = []
    for _ in range(rounds):
        for worker in (1, 2):
            logged = deployment.log(worker).exists()
            opened = deployment.count(worker, "shards_opened") if logged else 0
            deployment.start(worker)
            deployment.wait_open(worker, times=opened + 1)
            time.sleep(pause_s)
            deployment.assert_alive()
        for worker in (2, 1):
            started = time.monotonic()
            assert deployment.terminate(worker) == 0, deployment.tail(worker)
            took.append(time.monotonic() - started)
            time.sleep(pause_s)
            deployment.assert_alive()
    return Harm(
        4 * rounds,
        [
            at_most("processes that ended unasked", 0, "", 0),
            at_most("slowest exit after SIGTERM", max(took), "s", 25),
        ],
    )


def lost_disk(deployment: Deployment) -> Harm:
    """Kill a worker and delete its directory: its shards come back from the changelog."""
    time.sleep(3)
    deployment.kill(0)
    shutil.rmtree(deployment.directory / "worker-0")
    deployment.start(0)
    return Harm(1)


def nothing(deployment: Deployment, for_s: float) -> Harm:
    """No fault but what the load itself brings; no worker ends or loses a shard."""
    before = [deployment.count(worker, "shards_opened") for worker in deployment.workers]
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        time.sleep(1.0)
        deployment.assert_alive()
    after = [deployment.count(worker, "shards_opened") for worker in deployment.workers]
    opened = sum(after) - sum(before)
    return Harm(0, [at_most("agents or workers that started again", opened, "", 0)])
