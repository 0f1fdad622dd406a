"""Pages to look at and forms to send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from dqm.alarm import (
    AcceptChange,
    AcknowledgeAlarm,
    AlarmState,
    Cause,
    RemoveMask,
    UnshelveAlarm,
    attention,
    find_sign,
    parse_numbers,
)
from dqm.alarm.rolling_reference import may_accept_change
from dqm.alarm.run_values import FEWEST_WINDOWS
from dqm.events import Explanation, Quality
from dqm.events.summary import WindowSummary, summarise
from dqm.export import charts, map_charts
from dqm.export.trend_chart import (
    MOST_STREAMS,
    MOST_VALUES,
    shares_figure,
    table_values,
    trend_figure,
    values_figure,
)
from dqm.web import models as m
from dqm.web.changes import acknowledge_group, carry_out
from dqm.web.forms import Form, answer_form, describe_trouble
from dqm.web.models import Problem
from dqm.web.problems import NotFoundError
from dqm.web.queries import Queries
from dqm.web.render import render
from dqm.web.wall import strip_paths

__all__ = ["page_routes"]

_HISTORY = 200
_CHANGES = 50


def page_routes(queries: Queries) -> list[Route]:
    """Make the routes of the pages.

    Parameters
    ----------
    queries : Queries
        What is shown.

    Returns
    -------
    list of Route
        For the application.
    """
    pages: dict[str, Callable[[Queries, Request], Response]] = {
        "/": _overview,
        "/alarms": _alarms,
        "/alarms/{stream}/{cause}": _alarm,
        "/masks": _masks,
        "/streams/{stream}": _stream,
        "/windows/{stream}/{run}/{seq}": _window,
        "/windows/{stream}/{run}/{seq}/events.parquet": _events,
        "/trends": _trends,
        "/wall": _wall,
        "/help": _help,
    }
    forms: dict[str, Callable[[Queries, Request, Form], str]] = {
        "/alarms/groups/acknowledge": _acknowledge_group,
        "/alarms/{stream}/{cause}/acknowledge": _acknowledge,
        "/alarms/{stream}/{cause}/shelve": _shelve,
        "/alarms/{stream}/{cause}/unshelve": _unshelve,
        "/alarms/{stream}/changed/accept": _accept,
        "/masks": _mask,
        "/masks/{identifier}/remove": _unmask,
    }

    def show_trouble(request: Request, _fields: Form, problem: Problem) -> Response:
        return _show_trouble(queries, request, problem)

    return [
        *(Route(path, _show(queries, page)) for path, page in pages.items()),
        *(
            Route(path, answer_form(partial(form, queries), show_trouble), methods=["POST"])
            for path, form in forms.items()
        ),
    ]


def _show(queries: Queries, page: Callable[[Queries, Request], Response]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return page(queries, request)

    return answer


def _show_trouble(queries: Queries, request: Request, problem: Problem) -> Response:
    trouble = describe_trouble(problem)
    if "cause" in request.path_params:
        return _alarm(queries, request, trouble, problem.status)
    if request.url.path.startswith("/alarms/"):
        return _alarms(queries, request, trouble, problem.status)
    return _masks(queries, request, trouble, problem.status)


def _overview(queries: Queries, request: Request) -> Response:
    page = queries.overview()
    name = request.query_params.get("name", "")
    quality = request.query_params.get("quality", "")
    streams = {
        s.name: s
        for s in page.streams
        if name.lower() in f"{s.path}/{s.name}".lower() and quality in ("", s.quality)
    }
    is_filtered = bool(name or quality)
    first = streams if is_filtered else {name for name, s in streams.items() if _needs_attention(s)}
    return render(
        queries, request, "overview.html", page=page, streams=streams, first=first, sizes=_sizes(page.tree),
        opened={path for each in first for path in _paths(streams[each].path)},
        name=name, is_filtered=is_filtered,
        explained={s.name: s.explained for s in page.streams},
        mixed=len({s.last.origin for s in page.streams if s.last}) > 1,
    )  # fmt: skip


def _needs_attention(stream: m.Stream) -> bool:
    """Tell whether a stream is shown before it is asked for, as on the wall."""
    sign = find_sign(stream.quality, stream.alarm, stream.activity, is_suppressed=stream.is_suppressed)
    return attention(sign, stream.since) is not None


def _paths(path: str) -> Iterator[str]:
    """Give the paths of a group and of all that it is in, the root included."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _sizes(group: m.Group) -> dict[str, int]:
    """Count the streams of a group and of all within it, by path."""
    sizes: dict[str, int] = {}
    for inner in group.groups:
        sizes |= _sizes(inner)
    n_inside = sum(sizes[inner.path] for inner in group.groups)
    return sizes | {group.path: len(group.streams) + n_inside}


def _alarms(queries: Queries, request: Request, trouble: str = "", status: int = 200) -> Response:
    page = queries.alarms()
    everything = request.query_params.get("show") == "all"
    normal = [alarm for alarm in page.alarms if everything and alarm.state is AlarmState.NORMAL]
    return render(
        queries, request, "alarms.html", status, page=page, normal=normal, everything=everything,
        trouble=trouble, left=_number_left(request),
        changes=queries.changes(limit=_CHANGES).changes, most_changes=_CHANGES,
        thresholds=queries.thresholds(), explained=page.explained,
    )  # fmt: skip


def _number_left(request: Request) -> int:
    """Read how many alarms an acknowledgement of a group has left, from the address that it leads to."""
    text = request.query_params.get("left", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < len("1000000") else 0


def _alarm(queries: Queries, request: Request, trouble: str = "", status: int = 200) -> Response:
    alarm = queries.alarm(*_alarm_of(request))
    changes = [
        change
        for change in queries.changes(stream=alarm.stream, limit=4 * _CHANGES).changes
        if change.alarm.cause is alarm.cause
    ]
    is_followed = alarm.stream in queries.alarm_service.for_rolling_references()
    may_be_accepted = is_followed and may_accept_change(alarm)
    return render(
        queries, request, "alarm.html", status, alarm=alarm, changes=changes[:_CHANGES], trouble=trouble,
        may_be_accepted=may_be_accepted,
    )  # fmt: skip


def _masks(queries: Queries, request: Request, trouble: str = "", status: int = 200) -> Response:
    names = queries.statuses.names
    return render(queries, request, "masks.html", status, page=queries.masks(), names=names, trouble=trouble)


def _stream(queries: Queries, request: Request) -> Response:
    page = queries.stream(request.path_params["stream"])
    run, quality = _window_filter(request)
    windows = queries.windows(page.name, run=run, quality=quality, limit=_HISTORY).windows
    last = queries.last_anomaly(page.name)
    explanation = last.explanation if last else None
    why = queries.why_unexplained(last) if last else ""
    return render(
        queries, request, "stream.html", page=page, windows=windows, run=run, quality=quality,
        figure=charts.history(windows, queries.thresholds()), anomaly=summarise(last) if last else None,
        explanation=explanation, why_unexplained=why, qualities=list(Quality), causes=list(Cause),
        bundles=queries.bundles.get(page.name, ()),
        latest_occupancy=_latest_occupancy(queries, page.last),
        has_channels=any(one.is_of_channels for one in queries.bundles.get(page.name, ())),
        channel_masks=queries.alarm_service.channel_masks().get(page.name, ()), **_figures(explanation),
    )  # fmt: skip


def _trends(queries: Queries, request: Request) -> Response:
    choice = m.TrendChoice.model_validate_strings(dict(request.query_params))
    names = sorted(queries.bundles)
    if choice.stream is None:
        table = queries.shares(choice)
        totals = table.totals(names)
        figure = shares_figure(table, [one.stream for one in totals], choice.as_query) if totals else None
        return render(
            queries, request, "trends.html", names=names, choice=choice, trend=None, table=table,
            totals=totals, most=MOST_STREAMS, figure=figure,
        )  # fmt: skip
    trend = queries.trend(choice.stream, choice)
    bundles = queries.bundles.get(choice.stream, ())
    return render(
        queries, request, "trends.html", names=names, choice=choice, trend=trend, table=None,
        bundles=bundles,
        columns=table_values(trend),
        most_values=MOST_VALUES,
        fewest_windows=FEWEST_WINDOWS,
        figure=trend_figure(trend, bundles) if trend.runs else None,
        values=values_figure(trend, bundles) if trend.runs else None,
    )  # fmt: skip


def _wall(queries: Queries, request: Request) -> Response:
    choice = m.WallChoice.model_validate_strings(dict(request.query_params))
    page = queries.wall(choice.hours)
    names = queries.statuses.names
    return render(
        queries, request, "wall.html", page=page, n_streams=len(names), size=len(names) + len(page.groups),
        longest=max(map(len, names), default=0), paths=strip_paths,
    )  # fmt: skip


def _window(queries: Queries, request: Request) -> Response:
    place = m.WindowPlace.model_validate_strings(request.path_params)
    page = queries.window(place.stream, place.run, place.seq)
    return render(
        queries, request, "window.html", page=page, v=page.verdict, explanation=page.explanation,
        **_figures(page.explanation),
    )  # fmt: skip


def _events(queries: Queries, request: Request) -> Response:
    place = m.WindowPlace.model_validate_strings(request.path_params)
    path = queries.events(place.stream, place.run, place.seq)
    name = f"{place.stream}-{place.run}-{place.seq}.parquet"
    return FileResponse(path, media_type="application/vnd.apache.parquet", filename=name)


def _figures(explanation: Explanation | None) -> dict[str, Any]:
    if explanation is None:
        return {"figures": [], "pair_figures": [], "occupancy_figures": []}
    return {
        "figures": map_charts.maps(explanation),
        "pair_figures": map_charts.pair_maps(explanation.pairs),
        "occupancy_figures": map_charts.occupancy(explanation.occupancy) if explanation.occupancy else [],
    }


def _latest_occupancy(queries: Queries, last: WindowSummary | None) -> list[charts.Figure]:
    """Draw the occupancy of the last window, whatever its quality."""
    if last is None or last.channels is None:
        return []
    explanation = queries.window(last.stream, last.run, last.seq).explanation
    return map_charts.occupancy(explanation.occupancy) if explanation and explanation.occupancy else []


def _help(queries: Queries, request: Request) -> Response:
    return render(queries, request, "help.html")


def _acknowledge(queries: Queries, request: Request, fields: Form) -> str:
    alarm = _alarm_of(request)
    carry_out(queries, request, AcknowledgeAlarm(*alarm, _comment(fields)))
    return _page_of(alarm)


def _acknowledge_group(queries: Queries, request: Request, fields: Form) -> str:
    done = acknowledge_group(queries, request, m.GroupBody.model_validate_strings(dict(fields)).command())
    return f"/alarms?left={len(done.left)}" if done.left else "/alarms"


def _shelve(queries: Queries, request: Request, fields: Form) -> str:
    alarm = _alarm_of(request)
    asked = m.ShelveBody.model_validate_strings(dict(fields))
    carry_out(queries, request, asked.command(*alarm))
    return _page_of(alarm)


def _unshelve(queries: Queries, request: Request, fields: Form) -> str:
    alarm = _alarm_of(request)
    carry_out(queries, request, UnshelveAlarm(*alarm, _comment(fields)))
    return _page_of(alarm)


def _accept(queries: Queries, request: Request, fields: Form) -> str:
    stream = request.path_params["stream"]
    carry_out(queries, request, AcceptChange(stream, _comment(fields)))
    return _page_of((stream, Cause.CHANGED))


def _mask(queries: Queries, request: Request, fields: Form) -> str:
    """Make a mask of alarms; or of channels, which the form on the page of a stream must name."""
    asked: dict[str, object] = dict(fields)
    of_stream = asked.pop("only", "") == "channels"
    types = fields.get("run_types", "")
    asked["run_types"] = tuple(t.strip() for t in types.split(",") if t.strip())
    chosen = {key: parse_numbers(str(asked.pop(key, ""))) for key in ("channels", "layers", "cards")}
    if of_stream or any(chosen.values()):
        asked["channels"] = chosen
    lasts = {key: asked.pop(key) for key in ("begin", "hours") if key in asked}
    asked |= m.MaskForm.model_validate_strings(lasts).times(queries.clock())
    body = m.MaskBody.model_validate(asked)
    carry_out(queries, request, body.command())
    return f"/streams/{body.streams}" if of_stream else "/masks"


def _unmask(queries: Queries, request: Request, fields: Form) -> str:
    carry_out(queries, request, RemoveMask(request.path_params["identifier"], _comment(fields)))
    return "/masks"


def _comment(fields: Form) -> str:
    return m.CommentBody.model_validate_strings(dict(fields)).comment


def _alarm_of(request: Request) -> tuple[str, Cause]:
    """Identity of the alarm in the address; raises `NotFoundError`."""
    stream = request.path_params["stream"]
    cause = request.path_params["cause"]
    if cause not in set(Cause):
        raise NotFoundError(f"no cause {cause!r}", fix=f"Use one of {', '.join(Cause)}")
    return stream, Cause(cause)


def _page_of(alarm: tuple[str, Cause]) -> str:
    stream, cause = alarm
    return f"/alarms/{stream}/{cause}"


def _window_filter(request: Request) -> tuple[int | None, Quality | None]:
    asked = {key: request.query_params.get(key) for key in ("run", "quality")}
    given = {key: value for key, value in asked.items() if value}
    query = m.WindowQuery.model_validate_strings(given)
    return query.run, query.quality
