"""Shift overview: which stream is in which state, since when, and what to do."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable
from grafana_foundation_sdk.models import dashboard as model

from dashboards.grafana.source.panels import (
    ALARM_STATES,
    BLUE,
    CODED,
    GREEN,
    GREY,
    ORANGE,
    QUALITIES,
    RED,
    SOURCE,
    Panel,
    alarm_state_code,
    data_table,
    limits,
    new_dashboard,
    number,
    quality_code,
    state_timeline,
    time_series,
    words,
)

__all__ = ["overview"]

SELECT = 'instance=~"$instance"'
KEYS = "job, instance, stream"
NO_DAEMON = "No monitor answers: see the daemon health dashboard"

ACTIONS = {
    0: ("Nothing", GREEN),
    1: ("Drift: look at the slope of Z, note when it began", ORANGE),
    2: ("Nuisance: compare slow control with the fitted value", ORANGE),
    3: ("Silent: is there a run? Then look at the collector", RED),
    4: ("Differs: open the stream, check HV, gas, thresholds", RED),
}
"""What to do for the most urgent alarm of a stream; in full in the runbook."""


def overview() -> Dashboard:
    """Build the dashboard ``dqm-overview``."""
    return (
        new_dashboard(
            "dqm-overview",
            "dqm: shift overview",
            "Every stream at one look: quality, age, since when, what to do.",
            since="now-3h",
        )
        .with_variable(
            QueryVariable("instance")
            .label("Monitor")
            .datasource(SOURCE)
            .query("label_values(dqm_build_info, instance)")
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(model.VariableOption(selected=True, text="All", value="$__all"))
        )
        .with_panel(_to_respond())
        .with_panel(_worst())
        .with_panel(_not_known())
        .with_panel(_oldest())
        .with_panel(_answering())
        .with_panel(_judged())
        .with_panel(_streams())
        .with_panel(_qualities())
        .with_panel(_alarms())
        .with_panel(_responses())
        .with_panel(_rates())
    )


def _to_respond() -> Panel:
    return number(
        "Alarms to respond to",
        "Must somebody do something now? Acknowledged, shelved and masked alarms are not counted.",
        f"sum(dqm_alarm_active{{{SELECT}}})",
        unit="short",
        empty=NO_DAEMON,
        mapping={0: ("none", GREEN)},
        steps=limits((None, GREEN), (1, RED)),
    )


def _worst() -> Panel:
    return number(
        "Worst quality",
        "How bad is the worst stream at this moment?",
        f"max({quality_code(SELECT)})",
        unit=CODED,
        empty=NO_DAEMON,
        mapping=QUALITIES,
    )


def _not_known() -> Panel:
    return number(
        "Streams not known",
        "Of how many streams is nothing known: no windows, too few events, outside of the calibration?",
        f"count({quality_code(SELECT)} == 0) or 0 * count(dqm_stream_info{{{SELECT}}})",
        unit="short",
        empty=NO_DAEMON,
        steps=limits((None, GREEN), (1, GREY)),
    )


def _oldest() -> Panel:
    return number(
        "Oldest verdict",
        "How old is what this page says of the stream that was heard least recently?",
        f"max(dqm_window_age_seconds{{{SELECT}}})",
        unit="s",
        empty="No window yet",
        decimals=0,
        steps=limits((None, GREEN), (600, ORANGE), (3600, RED)),
    )


def _answering() -> Panel:
    return number(
        "Monitors",
        "Do all daemons answer? If not, their streams are missing below.",
        f'min(up{{job="dqm", {SELECT}}})',
        unit=CODED,
        empty="Prometheus has no job named dqm",
        mapping={0: ("one is down", RED), 1: ("all answer", GREEN)},
    )


def _judged() -> Panel:
    return number(
        "Windows judged",
        "Do windows come and get judged?",
        f"60 * sum(rate(dqm_windows_total{{{SELECT}}}[$__rate_interval]))",
        unit="suffix: a minute",
        empty=NO_DAEMON,
        decimals=1,
        steps=limits((None, RED), (0.001, BLUE)),
    )


def _action_code() -> str:
    causes = ("drift", "nuisance", "silent", "differs")
    parts = [
        f'{code} * dqm_alarm_active{{{SELECT}, cause="{cause}"}}' for code, cause in enumerate(causes, 1)
    ]
    return f"max by ({KEYS}) ({' or '.join(parts)})"


def _streams() -> Panel:
    link = {
        "title": "Open this stream",
        "url": "/d/dqm-stream?var-stream=${__data.fields.stream}&var-instance=${__data.fields.instance}"
        "&${datasource:queryparam}&${__url_time_range}",
    }
    return data_table(
        "Streams",
        "Every stream: how good is it, how old is that, since when is there an alarm, what is to be done?",
        {
            "Quality": quality_code(SELECT),
            "To do": _action_code(),
            "Alarm since": f"1000 * min by ({KEYS}) (dqm_alarm_raised_timestamp_seconds{{{SELECT}}})",
            "Age": f"max by ({KEYS}) (dqm_window_age_seconds{{{SELECT}}})",
            "p": f"max by ({KEYS}) (dqm_window_p_value{{{SELECT}}})",
            "Z": f"max by ({KEYS}) (dqm_window_z_score{{{SELECT}}})",
        },
        unit="short",
        empty=NO_DAEMON,
        order=("stream", "Quality", "To do", "Alarm since", "Age", "p", "Z", "instance"),
        overrides={
            "stream": [_property("links", [link]), _property("custom.width", 180)],
            "Quality": _worded(QUALITIES, 140),
            "To do": _worded(ACTIONS, 420),
            "Alarm since": [_property("unit", "dateTimeFromNow"), _property("noValue", "no alarm")],
            "Age": [_property("unit", "s"), _property("decimals", 0), _property("noValue", "no window yet")],
            "p": [_property("unit", "sci"), _property("decimals", 1), _property("noValue", "not known")],
            "Z": [_property("unit", "none"), _property("decimals", 1), _property("noValue", "not known")],
        },
        sort="To do",
        height=10,
    )


def _property(name: str, value: object) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val=name, value=value)


def _worded(meaning: dict[int, tuple[str, str]], width: int) -> list[model.DynamicConfigValue]:
    return [
        _property("mappings", words(meaning)),
        _property("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
        _property("custom.width", width),
    ]


def _qualities() -> Panel:
    return state_timeline(
        "Quality",
        "When did which stream change?",
        quality_code(SELECT),
        "{{stream}}",
        QUALITIES,
        empty=NO_DAEMON,
        height=10,
    )


def _alarms() -> Panel:
    keys = f"{KEYS}, cause"
    return data_table(
        "Alarms that are not Normal",
        "Which alarms are raised, waiting, shelved or masked, and since when?",
        {
            "State": f"{alarm_state_code(SELECT)} > 0",
            "Since": f"1000 * max by ({keys}) (dqm_alarm_raised_timestamp_seconds{{{SELECT}}})",
        },
        unit="short",
        empty="All alarms are Normal",
        order=("stream", "cause", "State", "Since", "instance"),
        overrides={
            "State": _worded(ALARM_STATES, 140),
            "Since": [_property("unit", "dateTimeAsIso"), _property("noValue", "not raised")],
        },
        sort="Since",
        span=12,
    )


def _responses() -> Panel:
    return state_timeline(
        "Alarms that asked for a response",
        "When did somebody have to respond, and to what?",
        f"max by ({KEYS}, cause) (dqm_alarm_active{{{SELECT}}}) == 1",
        "{{stream}}: {{cause}}",
        {1: ("respond", RED)},
        empty="No alarm asked for a response in this time",
        span=12,
    )


def _rates() -> Panel:
    return time_series(
        "Windows judged, by quality",
        "How many windows come, and how many of them are not Good?",
        (
            f"60 * sum by (quality) (rate(dqm_windows_total{{{SELECT}}}[$__rate_interval]))",
            "{{quality}}",
        ),
        unit="suffix: a minute",
        empty=NO_DAEMON,
        bars=True,
        colours={"Null": GREY, "Good": GREEN, "Medium": ORANGE, "Bad": RED},
        span=24,
    )
