"""What is wrong with a request, as an answer in OpenAI's form: never a traceback."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from kvsim.serve.engine import QueueFull

MOST_NAMED = 3
MOST_CHARACTERS = 200
_TYPES = {
    HTTPStatus.BAD_REQUEST: "BadRequestError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.UNPROCESSABLE_ENTITY: "UnprocessableEntityError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
}
_log = logging.getLogger("kvsim.serve")


class BadRequest(Exception):
    """A request that can be read, and cannot be served."""

    def __init__(self, message: str, param: str | None = None, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.param, self.status = param, status


def error_body(message: str, status: HTTPStatus, param: str | None = None) -> dict[str, Any]:
    """The body of an error. Whatever a client sent can be in ``message``: what no UTF-8 can have is written out."""
    plain = message.encode("utf-8", "backslashreplace").decode()
    kind = _TYPES.get(status, status.phrase)
    return {"error": {"message": plain, "type": kind, "param": param, "code": int(status)}}


def error_response(message: str, status: HTTPStatus, param: str | None = None) -> JSONResponse:
    """An error as a response."""
    return JSONResponse(error_body(message, status, param), int(status))


def install(app: FastAPI) -> None:
    """Make every exception of a route such an answer."""

    @app.exception_handler(BadRequest)
    def bad_request(request: Request, error: BadRequest) -> JSONResponse:
        return error_response(str(error), error.status, error.param)

    @app.exception_handler(QueueFull)
    def full(request: Request, error: QueueFull) -> JSONResponse:
        return error_response(str(error), HTTPStatus.SERVICE_UNAVAILABLE)

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = _explained(error)
        return error_response(message, HTTPStatus.UNPROCESSABLE_ENTITY, param)

    @app.exception_handler(HTTPException)
    def by_status(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        if status is HTTPStatus.BAD_REQUEST:  # the framework's own, of bodies that it could not even begin to read
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        response = error_response(str(error.detail), status)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    def defect(request: Request, error: Exception) -> JSONResponse:
        _log.error("a defect while answering %s %s", request.method, request.url.path, exc_info=error)
        return error_response("the server has a defect; its log says more", HTTPStatus.INTERNAL_SERVER_ERROR)


def _explained(error: RequestValidationError) -> tuple[str, str | None]:
    """What is wrong and in which field, the first few of a body's faults."""
    found: dict[str, list[str]] = {}
    for fault in error.errors():
        place = [str(part) for part in fault.get("loc", ()) if part not in ("body", "query")]
        # Branches of a union are named like types, 'list[int]': no client knows them.
        names = [part for part in place if part.isidentifier() and part not in ("str", "int")] or place[:1]
        if fault.get("type") == "json_invalid":
            reason = fault.get("ctx", {}).get("error", "")
            return f"the body is not JSON: {reason} at character {place[0] if place else 0}", None
        if not place:
            return "the body must be a JSON object, sent as application/json", None
        reason = _shortened(str(fault.get("msg", "is wrong")))
        reasons = found.setdefault(".".join(names), [])
        if reason not in reasons:
            reasons.append(reason)
    parts = [f"{name}: {' or: '.join(reasons[:MOST_NAMED])}" for name, reasons in found.items()]
    more = f" (and {len(parts) - MOST_NAMED} more)" if len(parts) > MOST_NAMED else ""
    return "; ".join(parts[:MOST_NAMED]) + more, next(iter(found), None)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "..."
