"""Health of the daemons: whether they run, keep up, lose nothing, and can judge what they get."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.models import dashboard as model

from dashboards.grafana.source.panels import (
    BLUE,
    CODED,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SOURCE,
    Panel,
    data_table,
    heat_map,
    limits,
    new_dashboard,
    number,
    state_timeline,
    time_series,
)

__all__ = ["health"]

SELECT = 'instance=~"$instance"'
NO_DAEMON = "No monitor answered in this time"
RATE = "[$__rate_interval]"


def health() -> Dashboard:
    """Build the dashboard ``dqm-health``."""
    board = new_dashboard(
        "dqm-health",
        "dqm: daemon health",
        "Do the daemons run, keep up and lose nothing?",
        since="now-6h",
    ).with_variable(
        QueryVariable("instance")
        .label("Monitor")
        .datasource(SOURCE)
        .query('label_values(up{job="dqm"}, instance)')
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )
    for panel in _now():
        board.with_panel(panel)
    for title, panels in (("Keeping up", _keeping_up()), ("Losing nothing", _losing_nothing())):
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


def _now() -> list[Panel]:
    return [
        number(
            "Daemons that answer",
            "How many daemons does Prometheus reach?",
            f'sum(up{{job="dqm", {SELECT}}})',
            unit="short",
            empty="Prometheus has no job named dqm",
            steps=limits((None, RED), (1, GREEN)),
        ),
        number(
            "Last progress",
            "When did the slowest loop last do something? Above a minute it is stuck.",
            f"max(dqm_progress_age_seconds{{{SELECT}}})",
            unit="s",
            empty=NO_DAEMON,
            decimals=1,
            steps=limits((None, GREEN), (10, ORANGE), (60, RED)),
        ),
        number(
            "Windows in the queue",
            "How many windows wait for their test?",
            f"sum(dqm_queue_windows{{{SELECT}}})",
            unit="short",
            empty=NO_DAEMON,
        ),
        number(
            "Windows lost today",
            "How many windows were never judged: dropped by senders or skipped for overload, in 24 h?",
            f"sum(increase(dqm_lost_windows_total{{{SELECT}}}[1d]))"
            f" + sum(increase(dqm_skipped_windows_total{{{SELECT}}}[1d]))",
            unit="short",
            empty=NO_DAEMON,
            decimals=0,
            steps=limits((None, GREEN), (1, ORANGE)),
        ),
        number(
            "Windows judged today",
            "How much work was done in 24 h?",
            f"sum(increase(dqm_windows_total{{{SELECT}}}[1d]))",
            unit="short",
            empty=NO_DAEMON,
            decimals=0,
            steps=limits((None, BLUE)),
        ),
        number(
            "Streams without a window",
            "How many configured streams have never sent anything?",
            f"count(dqm_stream_info{{{SELECT}}} unless on (job, instance, stream) dqm_window_age_seconds)"
            f" or 0 * count(dqm_stream_info{{{SELECT}}})",
            unit="short",
            empty=NO_DAEMON,
            steps=limits((None, GREEN), (1, GREY)),
        ),
        state_timeline(
            "Up",
            "When was which daemon out of reach?",
            f'up{{job="dqm", {SELECT}}}',
            "{{instance}}",
            {0: ("down", RED), 1: ("up", GREEN)},
            empty="Prometheus has no job named dqm",
            span=12,
            height=6,
        ),
        data_table(
            "Daemons and references",
            "Which version runs where, and which reference judges which stream?",
            {
                "Running": f"dqm_stream_info{{{SELECT}}}"
                " * on (job, instance) group_left (version) dqm_build_info"
            },
            unit=CODED,
            empty=NO_DAEMON,
            order=("instance", "version", "stream", "bundle", "Running"),
            overrides={
                "Running": [
                    model.DynamicConfigValue(
                        id_val="mappings",
                        value=[
                            model.ValueMap(
                                options={"1": model.ValueMappingResult(text="yes", color=GREEN, index=0)}
                            )
                        ],
                    )
                ]
            },
            sort="stream",
            descending=False,
            span=12,
            height=6,
        ),
    ]


def _keeping_up() -> list[Panel]:
    quantile = (
        "histogram_quantile({q}, sum by (instance, le) (rate(dqm_test_seconds_bucket{{{s}}}{r}))) >= 0"
    ).format
    return [
        time_series(
            "Windows judged",
            "How many windows does each daemon judge?",
            (f"60 * sum by (instance) (rate(dqm_windows_total{{{SELECT}}}{RATE}))", "{{instance}}"),
            unit="suffix: a minute",
            empty=NO_DAEMON,
        ),
        time_series(
            "Queue",
            "Do windows pile up?",
            (f"dqm_queue_windows{{{SELECT}}}", "{{instance}}"),
            unit="short",
            empty=NO_DAEMON,
        ),
        time_series(
            "Time of a test",
            "How long does a test take, in the middle and in the slowest hundredth?",
            (quantile(q=0.5, s=SELECT, r=RATE), "{{instance}}, median"),
            (quantile(q=0.99, s=SELECT, r=RATE), "{{instance}}, 99 %"),
            unit="s",
            empty="No window was tested in this time",
        ),
        heat_map(
            "Times of tests",
            "How are the times spread: one population, or a slow second one?",
            f"sum by (le) (increase(dqm_test_seconds_bucket{{{SELECT}}}{RATE}))",
            "{{le}}",
            unit="short",
            axis_unit="s",
            empty="No window was tested in this time",
            scheme="Oranges",
            cumulative=True,
        ),
        time_series(
            "Age of the last progress",
            "Does the loop stand still now and then?",
            (f"dqm_progress_age_seconds{{{SELECT}}}", "{{instance}}"),
            unit="s",
            empty=NO_DAEMON,
        ),
        time_series(
            "Age of the last window",
            "Which stream stays away?",
            (f"dqm_window_age_seconds{{{SELECT}}}", "{{stream}}"),
            unit="s",
            empty="No window yet",
        ),
    ]


def _losing_nothing() -> list[Panel]:
    def counted(name: str, by: str) -> str:
        return f"sum by ({by}) (increase({name}{{{SELECT}}}{RATE}))"

    return [
        time_series(
            "Windows lost before they were sent",
            "Which sender's buffer overflows?",
            (counted("dqm_lost_windows_total", "stream"), "{{stream}}"),
            unit="short",
            empty=NO_DAEMON,
            bars=True,
        ),
        time_series(
            "Windows skipped for overload",
            "Which stream does a daemon have no time for?",
            (counted("dqm_skipped_windows_total", "stream"), "{{stream}}"),
            unit="short",
            empty=NO_DAEMON,
            bars=True,
        ),
        time_series(
            "Windows received again",
            "Who sends what has been judged? A burst after a restart is normal.",
            (counted("dqm_duplicate_windows_total", "stream"), "{{stream}}"),
            unit="short",
            empty=NO_DAEMON,
            bars=True,
        ),
        time_series(
            "Messages refused",
            "What breaks the wire format, and how?",
            (counted("dqm_refused_messages_total", "reason"), "{{reason}}"),
            unit="short",
            empty=NO_DAEMON,
            bars=True,
        ),
        time_series(
            "Failed attempts to store",
            "Can the daemon keep what it decides? While it cannot, it receives nothing.",
            (f"increase(dqm_store_failures_total{{{SELECT}}}{RATE})", "{{instance}}"),
            unit="short",
            empty=NO_DAEMON,
            bars=True,
        ),
        time_series(
            "Share of Null",
            "Of which part of the windows is nothing known?",
            (
                f'sum by (stream) (rate(dqm_windows_total{{{SELECT}, quality="Null"}}{RATE}))'
                f" / (sum by (stream) (rate(dqm_windows_total{{{SELECT}}}{RATE})) > 0)",
                "{{stream}}",
            ),
            unit="percentunit",
            empty="No windows in this time",
        ),
        time_series(
            "Cost of a scrape",
            "How long does Prometheus wait for a daemon?",
            (f'scrape_duration_seconds{{job="dqm", {SELECT}}}', "{{instance}}"),
            unit="s",
            empty="Prometheus has no job named dqm",
        ),
    ]
