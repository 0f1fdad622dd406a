"""What all dashboards share: where data come from, how qualities and alarms look, how panels are made.

Nothing is told by colour alone: every mapped value has a word. Panels are built with Grafana's own builder
library, so they follow Grafana's published schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dqm.alarm import Activity
from dqm.alarm.values import AlarmState
from dqm.events import Quality

__all__ = [
    "ALARM_STATES",
    "CODED",
    "QUALITIES",
    "Panel",
    "alarm_state_code",
    "data_table",
    "heat_map",
    "new_dashboard",
    "number",
    "quality_code",
    "state_timeline",
    "time_series",
    "words",
]

Panel = Builder[model.Panel]
_Kind = TypeVar("_Kind", stat.Panel, timeseries.Panel, statetimeline.Panel, heatmap.Panel, table.Panel)
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREY, GREEN, ORANGE, RED, BLUE = "#8e8e8e", "green", "orange", "red", "blue"

_JUDGED = dict(
    enumerate(
        (quality.value, colour) for quality, colour in zip(Quality, (GREY, GREEN, ORANGE, RED), strict=True)
    )
)
QUALITIES = {-1: (Activity.IDLE.value, BLUE)} | _JUDGED
"""Word and colour of each code of `quality_code`."""

_STATE_COLOURS = (GREEN, "yellow", RED, ORANGE, "purple", BLUE, "light-blue", GREY, "dark-blue")
ALARM_STATES = dict(
    enumerate((state.value, colour) for state, colour in zip(AlarmState, _STATE_COLOURS, strict=True))
)
"""Word and colour of each code of `alarm_state_code`."""

CODED = "none"
"""Unit of values that are shown as words."""

HEIGHT = 8


def quality_code(select: str) -> str:
    """Quality of each stream as a number, worse is more: see `QUALITIES`."""
    parts = [
        f'{code} * dqm_window_quality{{{select}, quality="{word}"}}' for code, (word, _) in _JUDGED.items()
    ]
    parts.append(f"-1 * dqm_stream_idle{{{select}}}")  # an idle stream is Null, which is 0
    return f"sum by (job, instance, stream) ({' or '.join(parts)})"


def alarm_state_code(select: str) -> str:
    """State of each alarm as a number: see `ALARM_STATES`."""
    parts = [
        f'{code} * dqm_alarm_state{{{select}, state="{word}"}}' for code, (word, _) in ALARM_STATES.items()
    ]
    return f"max by (job, instance, stream, cause) ({' or '.join(parts)})"


def words(meaning: Mapping[int, tuple[str, str]]) -> list[model.ValueMapping]:
    """Show numbers as words, each with its colour."""
    return [
        model.ValueMap(
            options={
                str(code): model.ValueMappingResult(text=text, color=colour, index=index)
                for index, (code, (text, colour)) in enumerate(meaning.items())
            }
        )
    ]


def limits(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours from a value on; the first step has none."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=colour) for value, colour in steps])
    )


def _query(expr: str, legend: str, letter: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(letter).datasource(SOURCE)


def _finish(panel: _Kind, title: str, question: str, unit: str, span: int, height: int, empty: str) -> _Kind:
    return (
        panel.title(title)
        .description(question)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(height)
        .no_value(empty)
    )


def number(
    title: str,
    question: str,
    expr: str,
    *,
    unit: str,
    empty: str,
    legend: str = "",
    mapping: Mapping[int, tuple[str, str]] | None = None,
    steps: dashboard.ThresholdsConfig | None = None,
    decimals: int | None = None,
    span: int = 4,
) -> stat.Panel:
    """One number, large, as it is now; its background has the colour."""
    panel = (
        stat.Panel()
        .with_target(_query(expr, legend or title, "A").instant())
        .color_mode(shapes.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .text_mode(shapes.BigValueTextMode.NAME if legend else shapes.BigValueTextMode.VALUE)
        .thresholds(steps or limits((None, "text")))
    )
    if mapping:
        panel.mappings(words(mapping))
    if decimals is not None:
        panel.decimals(decimals)
    return _finish(panel, title, question, unit, span, 4, empty)


def time_series(
    title: str,
    question: str,
    *queries: tuple[str, str],
    unit: str,
    empty: str,
    span: int = 12,
    log: bool = False,
    bars: bool = False,
    limit: str = "",
    colours: Mapping[str, str] | None = None,
    steps: dashboard.ThresholdsConfig | None = None,
) -> timeseries.Panel:
    """Lines, or stacked bars, over time.

    `queries` are pairs of expression and legend; the series whose legend is `limit` is drawn as a dashed red
    line. `steps` are drawn as dashed lines too.
    """
    panel = (
        timeseries.Panel()
        .line_width(2)
        .show_points(shapes.VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(shapes.LegendDisplayMode.LIST)
            .placement(shapes.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING)
        )
    )
    for letter, (expr, legend) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_query(expr, legend, letter).range())
    if log:
        panel.scale_distribution(common.ScaleDistributionConfig().type(shapes.ScaleDistribution.LOG).log(10))
    if bars:
        panel.draw_style(shapes.GraphDrawStyle.BARS).fill_opacity(80).line_width(0).stacking(
            common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A")
        )
    if limit:
        panel.override_by_name(limit, [_fixed(RED), _dashed()])
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_fixed(colour)])
    if steps:
        panel.thresholds(steps).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
        )
    return _finish(panel, title, question, unit, span, HEIGHT, empty)


def _fixed(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def _dashed() -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]})


def state_timeline(
    title: str,
    question: str,
    expr: str,
    legend: str,
    meaning: Mapping[int, tuple[str, str]],
    *,
    empty: str,
    span: int = 24,
    height: int = HEIGHT,
) -> statetimeline.Panel:
    """One band a series, in words, from code to code of `meaning`."""
    panel = (
        statetimeline.Panel()
        .with_target(_query(expr, legend, "A").range())
        .mappings(words(meaning))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .thresholds(limits((None, GREY)))
        .merge_values(True)
        .show_value(shapes.VisibilityMode.AUTO)
        .row_height(0.8)
        .fill_opacity(80)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(shapes.LegendDisplayMode.LIST)
            .placement(shapes.LegendPlacement.BOTTOM)
        )
    )
    return _finish(panel, title, question, CODED, span, height, empty)


def heat_map(
    title: str,
    question: str,
    expr: str,
    legend: str,
    *,
    unit: str,
    axis_unit: str,
    empty: str,
    scheme: str,
    ends: tuple[float, float] | None = None,
    cumulative: bool = False,
    span: int = 12,
) -> heatmap.Panel:
    """Rows of cells over time; a series is a row, named by its lower edge, or its upper if `cumulative`.

    Grafana takes differences of neighbours in the format for histograms, so only cumulative buckets have it.
    `ends` are the values at both ends of the colour scale.
    """
    target = _query(expr, legend, "A").range()
    if cumulative:
        target.format(PromQueryFormat.HEATMAP)
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme(scheme).steps(64)
    if ends:
        colour.min(ends[0]).max(ends[1]).reverse(True)
    layout = shapes.HeatmapCellLayout.LE if cumulative else shapes.HeatmapCellLayout.GE
    panel = (
        heatmap.Panel()
        .with_target(target)
        .calculate(False)
        .color(colour)
        # cells at 0 are shown: no events in a bin is news
        .filter_values(heatmap.FilterValueRange().le(1e-9 if cumulative else -1.0))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(layout).value(title))
        .y_axis(heatmap.YAxisConfig().unit(axis_unit).axis_placement(shapes.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit(unit).decimals(2))
        .show_legend()
        .mode(shapes.TooltipDisplayMode.SINGLE)
    )
    return _finish(panel, title, question, unit, span, HEIGHT, empty)


def data_table(
    title: str,
    question: str,
    columns: Mapping[str, str],
    *,
    unit: str,
    empty: str,
    order: tuple[str, ...],
    overrides: Mapping[str, list[model.DynamicConfigValue]],
    sort: str,
    descending: bool = True,
    span: int = 24,
    height: int = HEIGHT,
) -> table.Panel:
    """One row for each set of labels.

    Parameters
    ----------
    title, question, unit, empty, span, height
        As of every panel.
    columns : mapping of str to str
        Expression of each column of numbers, by its heading.
    order : tuple of str
        Headings and labels, from left to right; other labels are left out.
    overrides : mapping of str to list
        What is particular to a column.
    sort : str
        Column the rows are sorted by at first.
    descending : bool
        Which way.
    """
    panel = (
        table.Panel()
        .show_header(True)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    )
    letters = dict(zip(columns, "ABCDEFGH", strict=False))
    for heading, expr in columns.items():
        target = _query(expr, heading, letters[heading]).instant().format(PromQueryFormat.TABLE)
        panel.with_target(target)
    # a single table names its column of numbers "Value", several are told apart by their letters
    field = {h: "Value" if len(columns) == 1 else f"Value #{letter}" for h, letter in letters.items()}
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(("Time", "__name__", "job"), True),
                "indexByName": {field.get(name, name): index for index, name in enumerate(order)},
                "renameByName": {name: heading for heading, name in field.items()},
            },
        )
    )
    for name, properties in overrides.items():
        panel.override_by_name(name, properties)
    return _finish(panel, title, question, unit, span, height, empty)


def new_dashboard(uid: str, title: str, description: str, *, since: str) -> dashboard.Dashboard:
    """Start a dashboard: what it may be found by, its data source and its way to the others."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["dqm"])
        .timezone("browser")
        .time(since, "now")
        .refresh("10s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .editable()
        .link(
            dashboard.DashboardLink("The other dqm dashboards")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["dqm"])
            .as_dropdown(False)
            .keep_time(True)
            .include_vars(False)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .description("Prometheus that watches the monitors")
            .type("prometheus")
        )
    )
