"""``groundswell keys``: keys that releases are signed with."""

import os
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import SettingsError
from schemas.signing import SigningKey

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Keys that encoders' releases are signed with.")


@app.callback()
def _group() -> None:
    """Keys that encoders' releases are signed with."""


@app.command(epilog="Example: groundswell keys new data-team --folder ~/.config/groundswell")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; it stands beside the public one.")],
    folder: Annotated[Path, typer.Option(help="Where NAME.key and NAME.pub go.")] = Path(),
) -> None:
    """Make an ed25519 key: NAME.key to sign with, NAME.pub for the workers to trust.

    The private key is not protected by a password: only its owner may read the file. Workers trust
    the keys in GROUNDSWELL_TRUSTED_KEYS, and no others.
    """
    if "/" in name or not name.isprintable() or not name.strip():
        raise SettingsError(f"a key's name is printable and no path, got {name!r}")
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise SettingsError(f"{path} is there already: give another name, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    key = SigningKey.new(name)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.pem())
    public.write_text(f"{key.public}\n")
    typer.echo(f"{private}: keep it secret, sign with it: groundswell encoder publish --key")
    typer.echo(f"{public}: {key.public.key_id}, for workers: GROUNDSWELL_TRUSTED_KEYS={public}")
