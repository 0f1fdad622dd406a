"""``dqm reference channels``: the reference of dead and noisy channels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqm.cli.output import say
from dqm.cli.settings import Read, ReadAs, parse_reading
from dqm.errors import format_count

__all__ = ["channels"]


def channels(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CSV or Parquet files of hits by channel and time, one file a healthy run.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Directory to create.")],
    seconds: Annotated[float, typer.Option(min=0.001, max=1e6, help="Length of a window, s.")],
    channel_map: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Layer, wire and card of each channel: CSV or Parquet; default: channels have numbers only.",
        ),
    ] = None,
    counts: Annotated[str, typer.Option(help="Column with the hits.")] = "hits",
    illumination: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1.0,
            help="Change of rate and illumination that is not a fault, one standard deviation.",
        ),
    ] = 0.1,
    chamber: Annotated[str | None, typer.Option(help="Only rows with this value of 'chamber'.")] = None,
    read: Read = None,
    read_as: ReadAs = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the toys.")] = 1,
) -> None:
    """Build a bundle that names dead and noisy channels, from the hits of every channel."""
    from dqm.nplm.channels import LEAST_FACTOR
    from dqm.reference import ChannelRecipe, create_channel_bundle
    from dqm.reference.channel_explanation import describe_silent
    from dqm.service.offline.channel_files import read_channel_map, read_channel_tables

    known = None if channel_map is None else read_channel_map(channel_map)
    tables, sources = read_channel_tables(files, counts, chamber, reading=parse_reading(read, read_as))
    recipe = ChannelRecipe(counts, seconds, illumination, seed)
    bundle = create_channel_bundle(tables, known, recipe, output, sources)
    n_windows, n_channels = bundle.reference.shape
    rate = bundle.manifest.rate_hz or 0.0
    say(f"{output}: bundle {bundle.identifier}, {format_count(n_channels, 'channel')} in ", end="")
    say(
        f"{format_count(n_windows, 'window')} of {bundle.manifest.n_expected:.6g} hits, {rate:.6g} Hz. ",
        end="",
    )
    if bundle.prepared["wander"][0] > LEAST_FACTOR:
        say("The channels wander slowly: the limits of the alarms will allow for it. ", end="")
    if silent := describe_silent(bundle):
        say(f"Nearly without hits in this run, so no window will call them dead: {silent}. ", end="")
    say(f"Next: dqm reference calibrate {output} --toys 1000")
