"""Stages of the speed rows: topics of their own for every run, on one broker."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.wire import Codec
from streams.kafka.broker import running
from tests.bench.speed.events import user_events
from tests.bench.speed.stage import Stage, stage

Stages = Callable[..., Any]
Records = list[tuple[str, bytes]]


@pytest.fixture
def stages(kafka: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Make a stage, as a context manager, with settings of the worker where they are given."""
    pid = _broker_pid(tmp_path_factory.getbasetemp())

    @contextmanager
    def make(users: int = 4, **settings: object) -> Iterator[Stage]:
        prefix = f"t-{secrets.token_hex(3)}-"
        given = {f"GROUNDSWELL_{name.upper()}": str(value) for name, value in settings.items()}
        given.setdefault("GROUNDSWELL_SESSION_TIMEOUT_S", "10")
        try:
            with stage(kafka, prefix, tmp_path / prefix, pid, users=users, settings=given) as made:
                yield made
        finally:
            topics = [t for t in kafka.admin.list_topics(timeout=30).topics if prefix in t]
            for gone in kafka.admin.delete_topics(topics).values():
                gone.result(30)

    return make


def _broker_pid(base: Path) -> int | None:
    """The embedded broker's process, where it is that which the tests run on."""
    found = [running(path) for path in base.glob("kafka[0-9]*/broker")]
    pids = [pid for one in found if one is not None for pid in one.pids]
    return pids[0] if len(pids) == 1 else None


@pytest.fixture(scope="session")
def events() -> Callable[[int, int], Records]:
    """Give so many events of so many users, by user."""
    codec = Codec()

    def make(count: int, users: int) -> Records:
        return [(e.user_id, codec.encode("", e)) for e in user_events(count, users)]

    return make
