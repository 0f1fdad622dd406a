"""``dqm trend``: what the windows of whole runs show, run after run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dqm.cli.output import say, say_json
from dqm.cli.records import write_records
from dqm.cli.settings import Runs, parse_runs
from dqm.errors import LARGEST_INTEGER, format_count
from dqm.events import Quality
from dqm.events.finite import utc_time

if TYPE_CHECKING:
    from rich.table import Table

    from dqm.alarm import RunStatistics, StreamTrend

__all__ = ["trend"]


def trend(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The daemon's TOML file, or a store.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    runs: Runs = None,
    last: Annotated[
        int,
        typer.Option(
            min=1,
            max=LARGEST_INTEGER,
            help="Without --runs: this number of runs of each stream, the last ones.",
        ),
    ] = 30,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write them to this .csv or .parquet."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for each run.")] = False,
) -> None:
    """Show the runs of each stream side by side, which differ, and since when windows are worse.

    A run is marked if its mean Z, its share of Bad windows, or its rate, nuisance parameters and conditions
    differ from those of the ten usual runs before it, each by more than chance in one of 1000 runs, or if
    other numbers of channels are dead or noisy. A run of fewer than 5 windows is compared in these numbers of
    channels alone. A condition that differs may explain the rest. The beginning
    of a deterioration is estimated from Z of all windows shown, with a 95 % interval.
    """
    from dqm.cli.reports import open_store, require_stream
    from dqm.cli.tables import print_table
    from dqm.export.run_trends import read_trends

    wanted = parse_runs(runs)
    opened, configured = open_store(config)
    with opened as store:
        if stream is not None:
            require_stream(store, stream, configured)
        streams = None if stream is None else [stream]
        trends = list(read_trends(store, streams, wanted, None if wanted else last))
    records = [_record(run, marks) for one in trends for run, marks in one.marked_runs]
    if output is not None:
        write_records(output, records)
        say(f"{format_count(len(records), 'run')} written to {output}")
    elif as_json:
        for record in records:
            say_json(json.dumps(record, allow_nan=False))
    elif not trends:
        say("no verdicts match")
    else:
        for one in trends:
            print_table(_table(one))
            if one.onset is not None:
                say(f"{one.stream}: {one.describe_onset()}")


def _table(trend: StreamTrend) -> Table:
    """Lay out the runs of one stream; columns that are empty in all runs are left out."""
    from rich.table import Table

    from dqm.cli.tables import cell

    rows = [_cells(run, marks) for run, marks in trend.marked_runs]
    values = trend.value_names
    names = [name for name in rows[0] if name not in values and any(row.get(name) for row in rows)] + values
    table = Table(title=f"{trend.stream}", box=None, pad_edge=False, title_justify="left")
    for name in [name for name in names if name != "differs"]:
        table.add_column(name, no_wrap=True, justify="left" if name == "begin (UTC)" else "right")
    table.add_column("differs")
    for row in rows:
        cells = [cell(row.get(name, "")) for name in names if name != "differs"]
        table.add_row(*cells, cell(row["differs"], "bold" if row["differs"] else ""))
    return table


def _cells(run: RunStatistics, marks: tuple[str, ...]) -> dict[str, str]:
    """Write a run; means of nuisance parameters, conditions and shares of features by their names."""
    z = [f"{value:.1f}" for value in run.z_quantiles]
    return {
        "run": str(run.run),
        "begin (UTC)": "" if run.begin is None else utc_time(run.begin).strftime("%m-%d %H:%M"),
        "windows": str(run.n_windows),
        "Bad": "-" if run.bad_share is None else f"{100 * run.bad_share:.0f} %",
        "Null": str(run.counts.get(Quality.NULL, 0) or ""),
        "Z (16, 50, 84 %)": " ".join(z),
        "events/s": "" if run.rate_hz is None else f"{run.rate_hz:.4g}",
        "differs": "; ".join(marks),
        **{name: f"{value:.4g}" for name, value in run.named_values.items()},
    }


def _record(run: RunStatistics, marks: tuple[str, ...]) -> dict[str, Any]:
    from dqm.alarm import means

    quantiles = run.z_quantiles or (None, None, None)
    return {
        "stream": run.stream,
        "run": run.run,
        "run_type": run.run_type,
        "begin": run.begin,
        "end": run.end,
        "n_windows": run.n_windows,
        **{f"n_{quality.value.lower()}": run.counts.get(quality, 0) for quality in Quality},
        "bad_share": run.bad_share,
        "z_16": quantiles[0],
        "z_50": quantiles[1],
        "z_84": quantiles[2],
        "rate_hz": run.rate_hz,
        "n_dead": run.n_dead,
        "n_noisy": run.n_noisy,
        "nuisances": means(run.nuisances),
        "conditions": means(run.conditions),
        "feature_shares": means(run.features),
        "marks": list(marks),
    }
