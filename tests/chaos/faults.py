"""The faults: each does its damage to a deployment under load, and gives how often."""

import random
import shutil
import signal
import time

from tests.chaos.driver import Feeder
from tests.kafka.harness import Deployment, wait_until

EXIT_FENCED = 3


def kills(deployment: Deployment, times: int, every_s: tuple[float, float]) -> int:
    """`kill -9` one worker after the other, and start it again."""
    rng = random.Random(times)
    for number in range(times):
        time.sleep(rng.uniform(*every_s))
        worker = number % len(deployment.workers)
        deployment.kill(worker)
        deployment.start(worker)
    return times


def rolling_restarts(deployment: Deployment, times: int, every_s: float) -> int:
    """SIGTERM, wait for a clean exit within 25 s, start again."""
    for number in range(times):
        time.sleep(every_s)
        worker = number % 2
        started = time.monotonic()
        assert deployment.terminate(worker, 30) == 0
        assert time.monotonic() - started < 25
        deployment.start(worker)
    return times


def freeze(deployment: Deployment, feeder: Feeder, session_s: float, backlog: int) -> int:
    """SIGSTOP for twice the session timeout under a backlog: the thawed worker is fenced."""
    frozen = deployment.workers[0]
    feeder.burst(backlog)
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(2 * session_s)
    frozen.send_signal(signal.SIGCONT)
    wait_until(lambda: frozen.poll() is not None or feeder_idle(deployment), 60, "it wakes")
    if frozen.poll() is not None:
        assert frozen.returncode == EXIT_FENCED, deployment.tail(0)
        deployment.start(0)
    return 1


def feeder_idle(deployment: Deployment) -> bool:
    """A thawed worker whose client noticed first has rejoined instead."""
    return deployment.count(0, "shards_opened") >= 2


def come_and_go(deployment: Deployment, rounds: int, pause_s: float) -> int:
    """Workers 1, 2, 3, 1: nobody ends who was not asked to."""
    for _ in range(rounds):
        for worker in (1, 2):
            opened = deployment.count(worker, "shards_opened") if worker in seen(deployment) else 0
            deployment.start(worker)
            deployment.wait_open(worker, times=opened + 1)
            time.sleep(pause_s)
        for worker in (2, 1):
            assert deployment.terminate(worker) == 0
            time.sleep(pause_s)
        deployment.assert_alive()
    return 4 * rounds


def seen(deployment: Deployment) -> set[int]:
    """Workers that have a log."""
    return {worker for worker in range(9) if deployment.log(worker).exists()}


def lost_disk(deployment: Deployment) -> int:
    """Kill a worker and delete its directory: its shards come back from the changelog."""
    time.sleep(3)
    deployment.kill(0)
    shutil.rmtree(deployment.directory / "worker-0")
    deployment.start(0)
    return 1
