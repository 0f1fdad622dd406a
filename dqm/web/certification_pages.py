"""Pages on which runs are looked at, amended, labelled and signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dqm.alarm import CertifyCommand, Decision, may_sign
from dqm.errors import LARGEST_INTEGER
from dqm.events import Quality
from dqm.web import certification_models as cm
from dqm.web.auth.principal import principal_of
from dqm.web.certification_queries import find_run, list_runs
from dqm.web.changes import certify
from dqm.web.forms import Form, answer_form, describe_trouble
from dqm.web.models import Problem
from dqm.web.problems import NotFoundError
from dqm.web.queries import Queries
from dqm.web.render import render

__all__ = ["certification_routes"]

ReadForm = Callable[[Form, int], CertifyCommand]


def certification_routes(queries: Queries) -> list[Route]:
    """Make the routes of the pages of certification.

    Parameters
    ----------
    queries : Queries
        What is shown.

    Returns
    -------
    list of Route
        For the application.
    """

    def show_list(request: Request) -> Response:
        asked = cm.RunQuery.model_validate_strings(dict(request.query_params))
        page = list_runs(queries.certification, asked.limit, asked.below)
        return render(
            queries, request, "certification.html", page=page, limit=asked.limit,
            registry=queries.certification.registry_status(),
        )  # fmt: skip

    def show_run(request: Request) -> Response:
        return _show(queries, request, dict(request.query_params))

    def change(read: ReadForm) -> Callable[[Request, Form], str]:
        def do(request: Request, fields: Form) -> str:
            run = _run_of(request)
            certify(queries, request, read(fields, run))
            return f"/certification/{run}"

        return do

    def show_again(request: Request, fields: Form, problem: Problem) -> Response:
        return _show(queries, request, fields, problem)

    forms: dict[str, ReadForm] = {"amend": _amend, "label": _label, "withdraw": _withdraw, "sign": _sign}
    return [
        Route("/certification", show_list),
        Route("/certification/{run}", show_run),
        *(
            Route(f"/certification/{{run}}/{name}", answer_form(change(read), show_again), methods=["POST"])
            for name, read in forms.items()
        ),
    ]


def _show(queries: Queries, request: Request, filled: Form, problem: Problem | None = None) -> Response:
    """Show a run; `filled` is what the forms had, so that nothing is written twice."""
    page = find_run(queries.certification, _run_of(request))
    return render(
        queries, request, "certified-run.html", problem.status if problem else 200, page=page, filled=filled,
        trouble=describe_trouble(problem), qualities=list(Quality)[::-1], decisions=list(Decision),
        signs=may_sign(principal_of(request).user, queries.certification.rules.signers),
        registry=queries.certification.registry_status(),
    )  # fmt: skip


def _run_of(request: Request) -> int:
    text = request.path_params["run"]
    if not (text.isascii() and text.isdigit()) or int(text) > LARGEST_INTEGER:
        raise NotFoundError(f"no run {text!r:.40}", fix="See /certification")
    return int(text)


def _amend(fields: Form, run: int) -> CertifyCommand:
    return cm.AmendBody.model_validate(cm.read_scope(dict(fields))).command(run)


def _label(fields: Form, run: int) -> CertifyCommand:
    return cm.LabelBody.model_validate(cm.read_scope(dict(fields))).command(run)


def _withdraw(fields: Form, run: int) -> CertifyCommand:
    return cm.WithdrawBody.model_validate_strings(dict(fields)).command(run)


def _sign(fields: Form, run: int) -> CertifyCommand:
    names = [name.strip() for name in fields.get("without", "").split(",") if name.strip()]
    asked: dict[str, Any] = dict(fields) | {"without": tuple(names)}
    return cm.SignBody.model_validate(asked).command(run)
