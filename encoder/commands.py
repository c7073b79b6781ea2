"""``groundswell encoder train`` and ``evaluate``: the commands that need torch.

The command loads this module by its entry point; torch is loaded where it is needed alone.
"""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from schemas.checks import LAST_TIME_MS
from schemas.errors import EncoderError
from schemas.manifest import version_order

if TYPE_CHECKING:
    from encoder.profile.config import TrainingConfig
    from encoder.profile.data import Split
    from encoder.profile.train import Trained

__all__ = ["evaluate", "train"]

GOLDEN = 16  # profiles whose encodings a manifest holds
CHECKPOINT = "checkpoint.safetensors"

Rows = Annotated[Path, typer.Argument(help="Parquet file, from `groundswell encoder dataset`.")]
Out = Annotated[Path, typer.Option(help="Folder of the run: model, manifest, report, checkpoint.")]
Name = Annotated[str, typer.Option(help="Of the encoder.")]
Version = Annotated[str, typer.Option(help="Three numbers; each release has one of its own.")]
ZSize = Annotated[int, typer.Option(help="Columns of an encoding.", min=1, max=256)]
Bits = Annotated[int, typer.Option(help="The embedding has 2**bits rows.", min=4, max=24)]
Embedding = Annotated[int, typer.Option(help="Columns of the embedding.", min=1, max=512)]
Epochs = Annotated[int, typer.Option(help="At most.", min=1)]
Patience = Annotated[
    int,
    typer.Option(
        help="It ends after so many epochs without improvement, not before the tenth.", min=1
    ),
]
Seed = Annotated[int, typer.Option(help="The same one gives the same encoder.", min=0)]
CreatedAt = Annotated[
    int | None,
    typer.Option(
        help="Seconds since 1970 that the manifest names as its making; without it: now.",
        envvar="SOURCE_DATE_EPOCH",
        min=0,
        max=LAST_TIME_MS // 1000,
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; auto: a GPU where there is one.")]


def train(
    rows: Rows,
    out: Out = Path("build/encoder"),
    name: Name = "people",
    version: Version = "1.0.0",
    z_size: ZSize = 32,
    bits: Bits = 14,
    embedding: Embedding = 32,
    epochs: Epochs = 40,
    patience: Patience = 6,
    seed: Seed = 1,
    device: Device = "auto",
    created_at: CreatedAt = None,
) -> None:
    """Train an encoder, export it, and report what it is worth.

    The oldest 70 % of the decisions are learned from, the next 15 % say when to stop, the newest
    15 % judge. Interrupted, it goes on from its last epoch when started again.

    Example: groundswell encoder train rows.parquet --version 1.1.0 --out build/encoder
    """
    _require_extra()
    from encoder.profile.config import TrainingConfig  # noqa: PLC0415  # torch: two seconds
    from encoder.profile.device import choose_device  # noqa: PLC0415
    from encoder.profile.evaluate import evaluate as judge  # noqa: PLC0415
    from encoder.profile.export import export  # noqa: PLC0415
    from encoder.profile.report import draw_curves, write_report  # noqa: PLC0415

    version_order(version)
    device = choose_device(device)
    config = TrainingConfig(
        z_size=z_size,
        bits=bits,
        embedding=embedding,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )
    began = time.monotonic()
    split = _read(rows)
    trained = _train(split, config, device, out / CHECKPOINT)
    evaluation = judge(trained, split)
    golden = _golden(rows)
    manifest = export(
        trained,
        split.train,
        golden,
        out,
        name=name,
        version=version,
        metrics=evaluation.metrics(),
        created_at_ms=int(1000 * (time.time() if created_at is None else created_at)),
    )
    facts = {
        "decisions": len(split.train) + len(split.valid) + len(split.test),
        "epochs": len(trained.history),
        "best": trained.best_epoch + 1,
        "z": z_size,
        "bytes": manifest.model_bytes,
        "seconds": round(time.monotonic() - began, 1),
    }
    curves = draw_curves(out, trained.history, trained.best_epoch)
    write_report(
        out, label=manifest.label, evaluation=evaluation, ablations=None, curves=curves, facts=facts
    )
    console = Console()
    _tell(console, manifest.label, evaluation.tasks)
    console.print(f"{manifest.model_bytes} bytes in {out}; report: {out}/report.html")


def evaluate(
    rows: Rows,
    out: Out = Path("build/encoder-evaluation"),
    name: Name = "people",
    z_size: ZSize = 32,
    bits: Bits = 14,
    embedding: Embedding = 32,
    epochs: Epochs = 40,
    patience: Patience = 6,
    seed: Seed = 1,
    device: Device = "auto",
) -> None:
    """Train with and without each part on the same rows, and report what each part is worth.

    It trains four times, exports nothing, and writes report.html, report.json and curves.png.

    Example: groundswell encoder evaluate rows.parquet --out build/encoder-evaluation
    """
    _require_extra()
    from encoder.profile.config import TrainingConfig  # noqa: PLC0415  # torch: two seconds
    from encoder.profile.device import choose_device  # noqa: PLC0415
    from encoder.profile.evaluate import ablations  # noqa: PLC0415
    from encoder.profile.evaluate import evaluate as judge  # noqa: PLC0415
    from encoder.profile.report import draw_curves, write_report  # noqa: PLC0415

    device = choose_device(device)
    config = TrainingConfig(
        z_size=z_size,
        bits=bits,
        embedding=embedding,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )
    split = _read(rows)
    trained = _train(split, config, device, None)
    evaluation = judge(trained, split)
    console = Console()
    without = ablations(
        split, trained, lambda each: console.print(f"training: {each}"), device=device
    )
    out.mkdir(parents=True, exist_ok=True)
    write_report(
        out,
        label=name,
        evaluation=evaluation,
        ablations=without,
        curves=draw_curves(out, trained.history, trained.best_epoch),
        facts={"decisions": len(split.train) + len(split.valid) + len(split.test)},
    )
    _tell(console, name, evaluation.tasks)
    console.print(_ablation_table(without))
    console.print(f"report: {out}/report.html")


def _require_extra() -> None:
    missing = [name for name in ("torch", "onnx", "safetensors", "pyarrow") if not find_spec(name)]
    if missing:
        raise EncoderError(
            f"training needs {', '.join(missing)}: install groundswell[encoder]; workers do not "
            "need it"
        )


def _read(rows: Path) -> "Split":
    from encoder.profile.data import Split, TrainingData, read_parquet  # noqa: PLC0415

    return Split.by_time(TrainingData.of(read_parquet(rows)))


def _golden(rows: Path) -> list:  # type: ignore[type-arg]
    """Profiles of the newest decisions, with their times."""
    from encoder.profile.data import read_parquet  # noqa: PLC0415

    newest = sorted(read_parquet(rows), key=lambda row: row.at_ms)[-GOLDEN:]
    return [(row.profile, row.at_ms) for row in newest]


def _train(
    split: "Split", config: "TrainingConfig", device: str, checkpoint: Path | None
) -> "Trained":
    from encoder.profile.train import train as run  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("epochs", total=config.epochs, loss="")

        def on_epoch(epoch: int, losses: dict[str, float]) -> None:
            loss = losses.get("valid clicked", float("nan"))
            progress.update(bar, completed=epoch, loss=f"clicked {loss:.4f}")

        return run(
            split.train,
            split.valid,
            config,
            device=device,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
        )


def _ablation_table(without: dict[str, dict[str, float]]) -> Table:
    from encoder.profile.report import ablation_table  # noqa: PLC0415

    head, *rows = ablation_table(without)
    shown = Table(*head, title="without its parts (AUC)", box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*row)
    return shown


def _tell(console: Console, title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values()), {}))
    if not columns:
        console.print(f"{title}: too little happened after the newest decisions to judge it by")
        return
    shown = Table("AUC", *columns, title=title, box=None, pad_edge=False)
    for name, values in rows.items():
        shown.add_row(name, *(f"{values[c]:.4f}" if c in values else "-" for c in columns))
    console.print(shown)
