"""The pages on which two runs, windows or streams are picked and compared with each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dqm.export import map_charts
from dqm.store import Taken
from dqm.web.auth.principal import principal_of
from dqm.web.changes import require
from dqm.web.comparisons import Comparison, ComparisonBody
from dqm.web.forms import Form, answer_form, describe_trouble
from dqm.web.models import Problem
from dqm.web.queries import Queries
from dqm.web.render import render

__all__ = ["compare_routes", "start_comparison"]

_SIDES = {"a": "first", "b": "second"}
_FIELDS = ("stream", "runs", "window", "taken")
_MOST_KEPT = 50
_TAKEN = {
    Taken.FAIR: "a fair sample of all",
    Taken.GOOD: "Good only",
    Taken.ANOMALOUS: "Medium and Bad only",
}


def compare_routes(queries: Queries) -> list[Route]:
    """Make the routes of comparisons.

    Parameters
    ----------
    queries : Queries
        What is shown, and who compares.

    Returns
    -------
    list of Route
        For the application.
    """

    def show(page: Callable[[Queries, Request], Response]) -> Callable[[Request], Response]:
        return lambda request: page(queries, request)

    def show_trouble(request: Request, fields: Form, problem: Problem) -> Response:
        return _pick(queries, request, fields, describe_trouble(problem), problem.status)

    return [
        Route("/compare", show(_pick)),
        Route("/compare", answer_form(partial(_start, queries), show_trouble), methods=["POST"]),
        Route("/compare/{identifier}", show(_comparison)),
        Route(
            "/compare/{identifier}/cancel",
            answer_form(partial(_cancel, queries), show_trouble),
            methods=["POST"],
        ),
    ]


def start_comparison(queries: Queries, request: Request, body: ComparisonBody) -> Comparison:
    """Begin a comparison in the name of whoever asks.

    Parameters
    ----------
    queries : Queries
        Who compares.
    request : Request
        Who asks.
    body : ComparisonBody
        What is compared.

    Raises
    ------
    NotSignedInError, RoleMissingError
        If there is no user, or the role does not allow it.
    InputError
        If nothing is kept, or there is no such stream.
    """
    for side in (body.first, body.second):
        queries.stream(side.stream)
    first, second = body.first.choice(), body.second.choice()
    require(queries, request, "compare", f"{first}; {second}")
    return queries.comparisons.start(first, second, body.permutations, principal_of(request).user)


def _start(queries: Queries, request: Request, fields: Form) -> str:
    sides = {
        name: {key: fields[f"{side}_{key}"] for key in _FIELDS if fields.get(f"{side}_{key}")}
        for side, name in _SIDES.items()
    }
    asked: dict[str, object] = {**sides}
    if "permutations" in fields:
        asked["permutations"] = fields["permutations"]
    begun = start_comparison(queries, request, ComparisonBody.model_validate_strings(asked))
    return f"/compare/{begun.identifier}"


def _cancel(queries: Queries, request: Request, _fields: Form) -> str:
    identifier = request.path_params["identifier"]
    require(queries, request, "compare", identifier)
    return f"/compare/{queries.comparisons.cancel(identifier).identifier}"


def _pick(
    queries: Queries, request: Request, fields: Form | None = None, trouble: str = "", status: int = 200
) -> Response:
    known = [*(f"{side}_{field}" for side in _SIDES for field in _FIELDS), "permutations"]
    sent: Form = request.query_params if fields is None else fields
    given = {name: sent.get(name, "") for name in known}
    names = queries.statuses.names
    wanted = {side: given[f"{side}_stream"] for side in _SIDES}
    kept = {
        name: queries.comparisons.kept_runs(name) for name in dict.fromkeys(wanted.values()) if name in names
    }
    return render(
        queries, request, "compare.html", status, given=given, names=names, sides=_SIDES, taken=_TAKEN,
        pick=_with_run, trouble=trouble,
        kept={name: runs[:_MOST_KEPT] for name, runs in kept.items()},
        n_kept={name: len(runs) for name, runs in kept.items()},
        keeping=queries.comparisons.describe_keeping(), comparisons=queries.comparisons.all(),
    )  # fmt: skip


def _with_run(given: Form, side: str, stream: str, run: int) -> dict[str, str]:
    """Fields of the form when a run is picked for one side."""
    picked = {f"{side}_stream": stream, f"{side}_runs": str(run), f"{side}_window": ""}
    return {name: value for name, value in {**given, **picked}.items() if value}


def _comparison(queries: Queries, request: Request) -> Response:
    page = queries.comparisons.find(request.path_params["identifier"])
    found = page.outcome
    words = map_charts.MapWords("A", "B")
    return render(
        queries, request, "comparison.html", page=page, found=found,
        figures=map_charts.maps(found.explanation, words, found.references) if found else [],
        pair_figures=map_charts.pair_maps(found.explanation.pairs, words) if found else [],
    )  # fmt: skip
