"""``dqm store``: back up, restore and compact what the daemon remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.errors import StoreError, format_count

__all__ = ["app"]

app = typer.Typer(help="Back up, restore and compact the store of verdicts.", no_args_is_help=True)

Where = Annotated[Path, typer.Argument(metavar="CONFIG|STORE", help="The daemon's TOML file, or a store.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The copy.")]


@app.callback()
def main() -> None:
    """Back up, restore and compact the store of verdicts."""


@app.command("backup")
def backup_command(
    store: Where,
    file: File,
    replace: Annotated[bool, typer.Option("--replace", help="Replace FILE if it is there.")] = False,
) -> None:
    """Copy verdicts, alarms and audit into one file while the daemon runs."""
    from dqm.store.backup import back_up

    n_verdicts = back_up(_find(store), file, replace=replace)
    say(f"{file}: {format_count(n_verdicts, 'verdict')}")


@app.command("restore")
def restore_command(
    store: Where,
    file: File,
    replace: Annotated[
        bool, typer.Option("--replace", help="If there is a store, move it aside first.")
    ] = False,
) -> None:
    """Put a copy in its place; the daemon must not run."""
    from dqm.store.backup import restore

    path = _find(store)
    aside = restore(file, path, replace=replace)
    say(f"{path}: restored" + (f"; what was there is now {aside}" if aside else ""))


@app.command()
def compact(store: Where) -> None:
    """Write the store anew without free space; a running daemon waits meanwhile and loses nothing."""
    from dqm.store.backup import compact as compact_file

    path = _find(store)
    before, after = compact_file(path)
    say(f"{path}: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")


def _find(where: Path) -> Path:
    """SQLite file that a configuration or a path names."""
    from dqm.config import load_daemon
    from dqm.store import STORE_FILE

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
