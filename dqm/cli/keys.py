"""``dqm keys``: who may send windows from other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say

__all__ = ["app"]

app = typer.Typer(help="Make keys for collectors on other hosts.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Make keys for collectors on other hosts."""


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(help="Name of the collector; the daemon's own key is called daemon.")
    ],
    directory: Annotated[
        Path, typer.Option("--dir", help="Directory for the two files of the key.")
    ] = Path(),
    stream: Annotated[
        list[str] | None, typer.Option(help="Stream it may send, * for any characters; repeatable.")
    ] = None,
) -> None:
    """Make a key: NAME.secret for its owner, and NAME.public for the other side."""
    from dqm.stream.keys import make_keys

    secret, public = make_keys(directory, name, stream or [])
    say(f"{secret}: stays with {name}, readable by nobody else")
    if name == "daemon":
        say(f"{public}: goes to every collector, as [collector] daemon_key")
        return
    say(f"{public}: goes into the daemon's directory of keys; reload the daemon to let {name} in")
    if not stream:
        say(f"{name} may not send anything yet: list its streams in {public}")
