"""The Ray Serve application: the answering deployment, V2's own, and the archive of the log.

Two things here follow from how Serve pickles the web app. Annotations are not postponed: the pickle lacks names that
only annotations use, and FastAPI would take `request` for a query parameter. And whatever a route calls is defined
above `ingress`: the app is pickled there, with the names that the module has by then.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from ray import serve
from starlette.exceptions import HTTPException

from fusion_models.data import open_dataset
from search.serving.answering import Answering
from search.serving.behind import Archive, Ranker, behind_everybody
from search.serving.dispatcher import Dispatcher
from search.serving.journal import Journal
from search.serving.request import MOST_BYTES, Catalogue, Problem, RankRequest

ONGOING = 64
"""Requests that a replica works on at once; above half of it, V2 is shed."""
QUEUED = 64
"""Requests that wait for a replica at the most; beyond, V1 is shed with 503."""

web = FastAPI(title="fusion-search shadow", version="1", docs_url=None, redoc_url=None)

_ERROR = {
    "type": "object",
    "required": ["error", "problems"],
    "properties": {
        "error": {"type": "string"},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
            },
        },
    },
}
_DESCRIBED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": RankRequest.model_json_schema()}},
    },
    "responses": {
        "200": {"description": "V1's order, best first"},
        **{
            code: {"description": what, "content": {"application/json": {"schema": _ERROR}}}
            for code, what in (
                ("413", "the body is too large"),
                ("422", "what is wrong with the request, and where"),
                ("503", "too many requests: try again"),
            )
        },
    },
}


class TooLargeError(ValueError):
    """A body beyond the limit."""


async def _body(request: Request) -> bytes:
    """The body. Raises TooLargeError as soon as it is known to be too large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise TooLargeError(f"the body is larger than {MOST_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


@web.exception_handler(HTTPException)  # type: ignore[untyped-decorator]
async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
    """Another path or method: refused in the same form as everything else."""
    said = f"{request.method} {request.url.path}: {error.detail}"
    problem = {"where": "path" if error.status_code == 404 else "method", "what": "POST /rank takes requests"}
    return JSONResponse({"error": said, "problems": [problem]}, status_code=error.status_code, headers=error.headers)


@dataclass(frozen=True, kw_only=True)
class ShadowLimits:
    """How much waits for V2, and when a file of the log is full."""

    queue: int = 256
    """Requests that wait for V2; V2 does not see those beyond."""
    timeout: float = 1.0
    """Seconds that V2 has for a request."""
    rows: int = 10_000
    """Of one file of the log."""
    seconds: float = 60.0
    """After which a file of the log is written, however few rows it has."""


USUAL_LIMITS = ShadowLimits()


@serve.ingress(web)
class Shadow:
    """Answers with V1's order. Nothing that V2 does is waited for."""

    def __init__(self, source: str, log: str, ranker: Any, archive: Any, limits: ShadowLimits) -> None:
        self._journal = Journal(Path(log), rows=limits.rows, seconds=limits.seconds)
        score = None if ranker is None else ranker.score.remote
        self._shadow = Dispatcher(score, self._journal, limit=limits.queue, timeout=limits.timeout)
        self._answering = Answering(Catalogue(open_dataset(source)), self._journal, self._shadow)
        self._archive = archive
        self._ongoing = 0
        self._tasks: list[asyncio.Task[None]] = []

    @web.post("/rank", openapi_extra=_DESCRIBED)  # type: ignore[untyped-decorator]
    async def rank(self, request: Request) -> JSONResponse:
        """V1's order of the candidates."""
        self._begin()
        self._ongoing += 1
        try:
            reply = self._answering.answer(await _body(request), busy=self._ongoing > ONGOING // 2)
        except TooLargeError as error:
            reply = self._answering.refuse(413, str(error), (Problem("body", f"send at most {MOST_BYTES} bytes"),))
        finally:
            self._ongoing -= 1
        return JSONResponse(reply.content, status_code=reply.code)

    @web.get("/status")  # type: ignore[untyped-decorator]
    async def status(self) -> JSONResponse:
        """What this replica has done since it started."""
        return JSONResponse(
            {
                "answered": self._answering.answered,
                "refused": self._answering.refused,
                "v2": dict(self._shadow.counts),
                "v2_waiting": self._shadow.waiting,
                "log_errors": self._journal.errors,
                "pid": os.getpid(),
            }
        )

    def _begin(self) -> None:
        """Start the work beside the answers, once there is a loop to do it in."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._shadow.run()), asyncio.create_task(self._retire())]

    async def _retire(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._journal.retire_old()


def application(
    *,
    source: str,
    log: Path,
    checkpoint: Path | None,
    ranker: type[Any] = Ranker,
    limits: ShadowLimits = USUAL_LIMITS,
    replicas: int = 1,
) -> Any:
    """The application: V1 answers over `source`; V2 of `checkpoint` behind it (None: no V2). For `serve.run`."""
    light: dict[str, Any] = {"num_cpus": 0}  # Ray's count of processors is for trainings; here priorities share them
    last = light | {"runtime_env": behind_everybody()}
    health: dict[str, Any] = {"health_check_period_s": 1.0, "health_check_timeout_s": 60.0}
    health["graceful_shutdown_wait_loop_s"] = 0.2
    v2 = None
    if checkpoint is not None:
        deployed = serve.deployment(ranker, name="v2", max_ongoing_requests=4, ray_actor_options=last, **health)
        v2 = deployed.bind(str(checkpoint.resolve()), source)
    keeper = serve.deployment(Archive, name="archive", ray_actor_options=last, **health).bind(str(log.resolve()))
    answering = serve.deployment(
        Shadow,
        name="v1",
        num_replicas=replicas,
        max_ongoing_requests=ONGOING,
        max_queued_requests=QUEUED,
        ray_actor_options=light,
        **health,
    )
    return answering.bind(source, str(log.resolve()), v2, keeper, limits)
