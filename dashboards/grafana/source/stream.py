"""One stream in detail: the numbers behind its quality, where it departs from the reference, and why."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.models import dashboard as model

from dashboards.grafana.source.panels import (
    ALARM_STATES,
    CODED,
    GREEN,
    GREY,
    ORANGE,
    QUALITIES,
    RED,
    SOURCE,
    Panel,
    alarm_state_code,
    heat_map,
    limits,
    new_dashboard,
    number,
    quality_code,
    state_timeline,
    time_series,
)

__all__ = ["stream"]

SELECT = 'instance="$instance", stream="$stream"'
UNKNOWN = "Not known: see the reason of the last verdict"
NO_WINDOW = "No window of this stream in this time"
NO_ANOMALY = "No Medium or Bad window in this time: nothing to explain"
NO_CHANNELS = "This stream does not carry the hits of every channel"
NO_ROLLING = "This stream has no rolling reference, or no window in this time"
NO_NUISANCE = "The reference of this stream has no nuisance parameters"


def stream() -> Dashboard:
    """Build the dashboard ``dqm-stream``."""
    board = new_dashboard(
        "dqm-stream",
        "dqm: stream",
        "One stream: the numbers behind its quality, where it departs from the reference, its conditions.",
        since="now-3h",
    )
    for name, label, query in (
        ("instance", "Monitor", "label_values(dqm_stream_info, instance)"),
        ("stream", "Stream", 'label_values(dqm_stream_info{instance="$instance"}, stream)'),
    ):
        board.with_variable(_variable(name, label, query))
    board.with_variable(
        _variable("feature", "Feature", f"label_values(dqm_density_ratio{{{SELECT}}}, feature)")
        .multi(True)
        .include_all(True)
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )
    for annotation in _annotations():
        board.annotation(annotation)
    for panel in _now():
        board.with_panel(panel)
    for title, panels in (
        ("The test", _test()),
        ("The last good windows", _rolling()),
        ("Where, and like what", _where()),
        ("Channels", _channels()),
        ("Nuisance parameters", _nuisances()),
        ("Conditions and alarms", _surroundings()),
    ):
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


def _variable(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _annotations() -> list[build.AnnotationQuery]:
    """Alarms as the daemon wrote them into Grafana, or, if it may not write there, as Prometheus saw them."""
    return [
        build.AnnotationQuery()
        .name("Alarms")
        .datasource(model.DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .enable(True)
        .icon_color(RED)
        .target(
            build.AnnotationTarget().type("tags").tags(["dqm", "stream:$stream"]).match_any(False).limit(200)
        ),
        build.AnnotationQuery()
        .name("Alarms, from Prometheus")
        .datasource(SOURCE)
        .enable(False)
        .icon_color(ORANGE)
        .expr(f"max by (stream, cause) (dqm_alarm_active{{{SELECT}}}) == 1"),
    ]


def _now() -> list[Panel]:
    return [
        number(
            "Quality",
            "How good is the last window?",
            quality_code(SELECT),
            unit=CODED,
            empty="This monitor has no such stream",
            mapping=QUALITIES,
        ),
        number(
            "Age",
            "How old is that?",
            f"dqm_window_age_seconds{{{SELECT}}}",
            unit="s",
            empty="No window yet",
            decimals=0,
            steps=limits((None, GREEN), (600, ORANGE), (3600, RED)),
        ),
        number(
            "p",
            "How probable is such a window, or a worse one, in a healthy detector?",
            f"dqm_window_p_value{{{SELECT}}}",
            unit="sci",
            empty=UNKNOWN,
            decimals=1,
        ),
        number(
            "Z",
            "The same in Gaussian standard deviations: 3 is one window in 700, 5 is none by chance.",
            f"dqm_window_z_score{{{SELECT}}}",
            unit="none",
            empty=UNKNOWN,
            decimals=1,
        ),
        number(
            "Alarms to respond to",
            "Must somebody do something about this stream?",
            f"sum(dqm_alarm_active{{{SELECT}}})",
            unit="short",
            empty="This monitor has no such stream",
            mapping={0: ("none", GREEN)},
            steps=limits((None, GREEN), (1, RED)),
        ),
        number(
            "Reference",
            "Which reference bundle judges it?",
            f"dqm_stream_info{{{SELECT}}}",
            unit="none",
            empty="This monitor has no such stream",
            legend="{{bundle}}",
        ),
    ]


def _test() -> list[Panel]:
    return [
        state_timeline(
            "Quality over time",
            "When did it change, and for how long?",
            quality_code(SELECT),
            "{{stream}}",
            QUALITIES,
            empty=NO_WINDOW,
            height=4,
        ),
        time_series(
            "p of each window",
            "Which windows are improbable, and which of them count for an alarm (below the dashed line)?",
            (f"dqm_window_p_value{{{SELECT}}}", "p"),
            ('dqm_alarm_p_threshold{instance="$instance"}', "counts for an alarm below"),
            unit="sci",
            empty=NO_WINDOW,
            log=True,
            limit="counts for an alarm below",
        ),
        time_series(
            "Slow deterioration",
            "Do the windows get worse little by little? The sum of Z raises the alarm at the dashed line.",
            (f"dqm_alarm_drift_statistic{{{SELECT}}}", "sum of Z (CUSUM)"),
            ('dqm_alarm_drift_limit{instance="$instance"}', "alarm from here on"),
            unit="none",
            empty=NO_WINDOW,
            limit="alarm from here on",
        ),
        time_series(
            "Z of each window",
            "How far is each window off, in standard deviations?",
            (f"dqm_window_z_score{{{SELECT}}}", "Z"),
            unit="none",
            empty=NO_WINDOW,
        ),
        time_series(
            "t, tau and Delta",
            "Is the departure real (t), or is it what nuisance parameters explain (Delta = tau - t)?",
            (f"dqm_window_statistic{{{SELECT}}}", "t"),
            (f"dqm_window_tau{{{SELECT}}}", "tau"),
            (f"dqm_window_delta{{{SELECT}}}", "Delta"),
            unit="none",
            empty=NO_WINDOW,
        ),
        time_series(
            "Events",
            "Does the window have as many events as a healthy detector gives? The alarm 'rate' judges that.",
            (f"dqm_window_events{{{SELECT}}}", "in the window"),
            (f"dqm_window_expected_events{{{SELECT}}}", "expected"),
            unit="short",
            empty=NO_WINDOW,
            limit="expected",
        ),
        time_series(
            "Windows not tested or lost",
            "Is something missing in these plots: windows dropped by the sender, or skipped for overload?",
            (f"increase(dqm_lost_windows_total{{{SELECT}}}[$__rate_interval])", "lost by the sender"),
            (f"increase(dqm_skipped_windows_total{{{SELECT}}}[$__rate_interval])", "skipped for overload"),
            (f"increase(dqm_duplicate_windows_total{{{SELECT}}}[$__rate_interval])", "received again"),
            unit="short",
            empty=NO_WINDOW,
        ),
    ]


def _rolling() -> list[Panel]:
    return [
        time_series(
            "p against the reference and against the last good windows",
            "Did something change suddenly (against the last good windows), or is it unlike a good detector?",
            (f"dqm_window_p_value{{{SELECT}}}", "against the reference"),
            (f"dqm_window_rolling_p_value{{{SELECT}}}", "against the last good windows"),
            ('dqm_alarm_changed_p_threshold{instance="$instance"}', "counts as a change below"),
            unit="sci",
            empty=NO_ROLLING,
            log=True,
            limit="counts as a change below",
            colours={"against the reference": GREY},
        ),
        time_series(
            "Good windows to compare with",
            "Is the rolling reference full? If not, windows are not compared: after a restart, another "
            "reference, or a change that somebody accepted.",
            (f"dqm_window_rolling_windows{{{SELECT}}}", "good windows before the last one"),
            unit="short",
            empty=NO_ROLLING,
        ),
        state_timeline(
            "Alarm of a sudden change",
            "Was a change seen, and has somebody accepted it? Until then the rolling reference stays as it "
            "was before, also while a mask or a shelf hides the alarm.",
            alarm_state_code(f'{SELECT}, cause="changed"'),
            "{{cause}}",
            ALARM_STATES,
            empty="This monitor has no such stream",
            height=4,
        ),
    ]


def _where() -> list[Panel]:
    return [
        time_series(
            "Features that carry the departure",
            "Where does the window differ: which feature, which layer?",
            (f"dqm_feature_share{{{SELECT}}}", "{{feature}}"),
            unit="percentunit",
            empty=NO_ANOMALY,
        ),
        time_series(
            "Known faults it looks like",
            "Has this been seen before, and what was it then?",
            (f"dqm_likeness{{{SELECT}}}", "{{fault}}"),
            unit="percentunit",
            empty="No Medium or Bad window in this time, or no templates of known faults",
        ),
        heat_map(
            "Density ratio of $feature",
            "Where in this feature are there more (above 1) or fewer (below 1) events than in the reference?",
            f'dqm_density_ratio{{{SELECT}, feature="$feature"}}',
            "{{bin}}",
            unit="none",
            axis_unit="short",
            empty=NO_ANOMALY,
            scheme="RdBu",
            ends=(0.0, 2.0),
        )
        .repeat("feature")
        .repeat_direction("h")
        .max_per_row(2),
    ]


def _channels() -> list[Panel]:
    return [
        time_series(
            "Dead and noisy channels",
            "How many channels are dead, low or noisy, and since when? Masked ones are known to be bad.",
            (f"dqm_channels{{{SELECT}}}", "{{kind}}"),
            unit="short",
            empty=NO_CHANNELS,
        ),
        time_series(
            "The worst channels: hits over expected hits",
            "How far off are those that depart most? 0 is dead; above 1 is noisy.",
            (f"dqm_worst_channel_ratio{{{SELECT}}}", "rank {{rank}}"),
            unit="none",
            empty=NO_CHANNELS + ", or no channel departs",
        ),
        time_series(
            "The worst channels: their numbers",
            "Which channel is it? The page of the stream has layer and wire.",
            (f"dqm_worst_channel_number{{{SELECT}}}", "rank {{rank}}"),
            unit="none",
            empty=NO_CHANNELS + ", or no channel departs",
        ),
    ]


def _nuisances() -> list[Panel]:
    return [
        time_series(
            "Pulls",
            "Does slow control agree with the data? The dashed lines are the default limit, 3 sigma.",
            (f"dqm_nuisance_pull{{{SELECT}}}", "{{nuisance}}"),
            unit="suffix: sigma",
            empty=NO_NUISANCE + ", or none is measured",
            steps=limits((None, RED), (-3, "transparent"), (3, RED)),
        ),
        time_series(
            "Fitted and measured",
            "Where does the fit put each parameter, and where does slow control measure it?",
            (f"dqm_nuisance_value{{{SELECT}}}", "{{nuisance}}, fitted"),
            (f"dqm_nuisance_measured{{{SELECT}}}", "{{nuisance}}, measured"),
            unit="none",
            empty=NO_NUISANCE,
        ),
        state_timeline(
            "Warnings",
            "When was a parameter further from its measurement than it may be?",
            f"dqm_nuisance_warning{{{SELECT}}}",
            "{{nuisance}}",
            {0: ("agrees", GREEN), 1: ("disagrees", ORANGE)},
            empty=NO_NUISANCE,
            height=5,
        ),
    ]


def _surroundings() -> list[Panel]:
    return [
        time_series(
            "Conditions",
            "What was set and measured around the detector: high voltage, thresholds, gas?",
            (f"dqm_condition{{{SELECT}}}", "{{condition}}"),
            unit="none",
            empty="The collector of this stream sends no conditions",
        ),
        state_timeline(
            "State of the alarms",
            "What became of each alarm: waiting, active, latched, shelved, masked?",
            alarm_state_code(SELECT),
            "{{cause}}",
            ALARM_STATES,
            empty="This monitor has no such stream",
            span=12,
        ),
    ]
