"""``dqm store``: back up, restore and compact the store of verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.config import load_daemon
from dqm.errors import StoreError
from dqm.store import STORE_FILE
from dqm.store.backup import back_up, restore
from dqm.store.backup import compact as compact_file

__all__ = ["app"]

app = typer.Typer(help="Back up, restore and compact the store of verdicts.", no_args_is_help=True)

Where = Annotated[Path, typer.Argument(metavar="CONFIG|STORE", help="The daemon's TOML file, or a store.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="File of the copy.")]


@app.callback()
def main() -> None:
    """Back up, restore and compact the store of verdicts."""


@app.command("backup")
def backup_command(
    store: Where,
    file: File,
    replace: Annotated[bool, typer.Option("--replace", help="Replace FILE if it exists.")] = False,
) -> None:
    """Copy verdicts, alarms and audit into one file while the daemon runs."""
    n_verdicts = back_up(_find(store), file, replace=replace)
    typer.echo(f"{file}: {n_verdicts} verdicts")


@app.command("restore")
def restore_command(
    store: Where,
    file: File,
    replace: Annotated[
        bool, typer.Option("--replace", help="If there is a store, move it aside first.")
    ] = False,
) -> None:
    """Replace the store by a copy; the daemon must not run."""
    path = _find(store)
    aside = restore(file, path, replace=replace)
    typer.echo(f"{path}: restored" + (f"; what was there is now {aside}" if aside else ""))


@app.command()
def compact(store: Where) -> None:
    """Rewrite the store without free space. A running daemon waits meanwhile and loses nothing."""
    path = _find(store)
    before, after = compact_file(path)
    typer.echo(f"{path}: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")


def _find(where: Path) -> Path:
    """Find the SQLite file of a configuration or a path."""
    if where.suffix == ".sqlite":
        return where
    section = load_daemon(where).daemon
    if section.store is not None:
        raise StoreError(
            "the verdicts are in PostgreSQL",
            where=str(where),
            fix="Use pg_dump and pg_restore: docs/reliability.md has the commands",
        )
    return section.data_dir / STORE_FILE
