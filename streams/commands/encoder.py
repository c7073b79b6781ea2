"""``groundswell encoder``: from what happened to a release that decides, and back."""

import time
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.encoder_releases import EncoderReleases
from schemas.errors import SettingsError
from schemas.manifest import Manifest
from schemas.registry import codec_for
from schemas.signing import SigningKey
from streams.commands.connect import Bootstrap, connect
from streams.commands.encoder_rows import dataset
from streams.core import releases as step
from streams.kafka.cluster import cluster_of
from streams.kafka.release_client import ReleaseClient
from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Train encoders of profiles, release them, and switch between releases.",
)
Name = Annotated[str, typer.Argument(help="The encoder.")]
Version = Annotated[str, typer.Argument(help="Of the release, such as 1.4.0.")]

app.command(epilog="Example: groundswell encoder dataset --out rows.parquet")(dataset)
# Training is a distribution's extra with its own dependencies: workers know of it by name alone.
for point in sorted(entry_points(group="groundswell.encoder"), key=lambda each: each.name):
    app.command(point.name)(point.load())


@app.command(epilog="Example: groundswell encoder publish build/encoder --key data-team.key")
def publish(
    folder: Annotated[Path, typer.Argument(help="What `groundswell encoder train` wrote.")],
    key: Annotated[Path, typer.Option(help="Private key, from `groundswell keys new`.")],
    bootstrap: Bootstrap = None,
) -> None:
    """Sign a trained encoder, put it into the store, and announce it. No worker uses it yet."""
    from streams.releases.encoder import Encoder  # noqa: PLC0415  # onnxruntime: 0.1 s to load
    from streams.releases.store import Store, signed  # noqa: PLC0415  # the same

    settings = connect(bootstrap)
    signing = SigningKey.read(key)
    try:
        manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes())
        model = (folder / "model.onnx").read_bytes()
    except FileNotFoundError as error:
        raise SettingsError(
            f"{error.filename} does not exist: write it with `groundswell encoder train --out "
            f"{folder}`"
        ) from error
    Encoder.load(manifest, model)  # what no worker would load is not published
    client = _client(settings)
    before = client.all().get(manifest.name)
    # What cannot be announced is not stored either.
    after = step.publish(before, manifest.name, signed(manifest, model, signing)[1], _now_ms())
    Store(settings.encoder_store).publish(manifest, model, signing)
    if after is not before:
        client.write(after)
    done = "published" if after is not before else "was published already:"
    typer.echo(
        f"{done} {manifest.label}, {len(model)} bytes, signed by {signing.public.key_id}, in "
        f"{settings.encoder_store}"
    )


@app.command("list", epilog="Example: groundswell encoder list people")
def list_releases(
    name: Annotated[str | None, typer.Argument(help="The encoder; all without it.")] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """List the releases that can be used, and which is live or in shadow."""
    client = _client(connect(bootstrap))
    found = [client.named(name)] if name is not None else list(client.all().values())
    if not found:
        typer.echo("nothing was published yet: groundswell encoder publish")
        return
    shown = Table(box=SIMPLE, pad_edge=False, padding=0)
    for column in ("release", "is", "bytes", "signed by", "published"):
        shown.add_column(column, justify="right" if column == "bytes" else "left")
    for releases in found:
        for release in releases.releases:
            published = datetime.fromtimestamp(release.published_at_ms / 1000, UTC)
            cells = (
                f"{releases.name}@{release.version}",
                _role(releases, release.version),
                str(release.model_bytes),
                release.signer,
                published.isoformat(timespec="minutes"),
            )
            shown.add_row(*map(Text, cells))
    Console().print(shown)


@app.command(epilog="Example: groundswell encoder shadow people 1.4.0")
def shadow(
    name: Name,
    version: Annotated[str | None, typer.Argument(help="Of the release, such as 1.4.0.")] = None,
    end: Annotated[bool, typer.Option("--end", help="Have none in shadow any more.")] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Put a release into shadow: policies are learned on it beside the one that is live."""
    if (version is None) != end:
        raise SettingsError("give a version, or --end to have none in shadow any more")
    client = _client(connect(bootstrap))
    before = client.named(name)
    after = (
        step.end_shadow(before, _now_ms())
        if version is None
        else step.shadow(before, version, _now_ms())
    )
    _write(client, after)


@app.command(epilog="Example: groundswell encoder promote people 1.4.0")
def promote(name: Name, version: Version, bootstrap: Bootstrap = None) -> None:
    """Make the release in shadow live, with the policies that were learned on it, in one step.

    Each worker takes it between two chunks; a wave that runs keeps the release that it began with.
    """
    client = _client(connect(bootstrap))
    _write(client, step.promote(client.named(name), version, _now_ms()))


@app.command(epilog="Example: groundswell encoder rollback people")
def rollback(name: Name, bootstrap: Bootstrap = None) -> None:
    """Return to the release that was live before, and to its policies, which went on learning."""
    client = _client(connect(bootstrap))
    _write(client, step.rollback(client.named(name), _now_ms()))


def _write(client: ReleaseClient, releases: EncoderReleases) -> None:
    client.write(releases)
    roles = [
        f"{version} is {role}"
        for role, version in (
            ("live", releases.live),
            ("in shadow", releases.shadow),
            ("what a rollback returns to", releases.previous),
        )
        if version is not None
    ]
    typer.echo(f"{releases.name}, step {releases.step}: {', '.join(roles) or 'none is in use'}")


def _role(releases: EncoderReleases, version: str) -> str:
    roles = {
        releases.previous: "before",
        releases.shadow: "shadow",
        releases.live: "live",
    }
    return roles.get(version, "")


def _client(settings: Settings) -> ReleaseClient:
    return ReleaseClient(cluster_of(settings), settings.topic_prefix, codec_for(settings.registry))


def _now_ms() -> int:
    return int(time.time() * 1000)
