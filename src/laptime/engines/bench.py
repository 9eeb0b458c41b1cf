"""`laptime serve-bench` from its request to its report: warm-up, then each load, every finished request on the disk."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec

from laptime.data.record import Interval, Scalar
from laptime.data.run_folder import RunFolder, new_info
from laptime.engines.address import endpoint_url
from laptime.engines.client import Endpoint, LoadRun, run_load, session
from laptime.engines.earlier import Earlier, read_earlier, rest_of, together
from laptime.engines.engine_run import boot_id
from laptime.engines.figures import level_of
from laptime.engines.findings import findings_of, is_bottleneck
from laptime.engines.keeper import WORKER, Keeper
from laptime.engines.loads import Load, concurrency, poisson
from laptime.engines.questions import Asking, Question, synthetic
from laptime.engines.request import RequestSample
from laptime.engines.result import SCHEMA, LargestLoad, Level, ServeReport, Slo
from laptime.engines.search import largest_load
from laptime.errors import LaptimeError
from laptime.measure.host import describe_host

Progress = Callable[[str, int, int], None]


class ServeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to send where. questions: of a data set; none are made up.

    fixed_prompt: one made-up prompt for all requests, so that a prefix cache can work. first_per_s: where the search
    for the largest load within the SLO begins; None searches nothing.
    """

    url: str
    asking: Asking
    loads: list[Load]
    questions: list[Question] = []
    headers: dict[str, str] = {}
    timeout_s: float = 120.0
    warmup: int = 2
    slo: Slo | None = None
    first_per_s: float | None = None
    search_requests: int = 100
    fixed_prompt: bool = False
    seed: int = 0
    resume: bool = False


def serve_bench(
    request: ServeRequest, out: Path | None, progress: Progress = lambda phase, done, of: None
) -> ServeReport:
    """Send the loads one after the other and say what came of each.

    out: the run folder; every request is on the disk soon after it ends, so that a kill loses only what was open. None
    keeps nothing. Raises LaptimeError for an address that can't be one, and for an endpoint that can't be reached or
    answers no warm-up request.
    """
    url = endpoint_url(request.url, request.asking.api)
    check_question(resume=request.resume, out=out, first_per_s=request.first_per_s, slo=request.slo)
    return asyncio.run(_Bench(request, url, out, progress).run())


def check_question(*, resume: bool, out: Path | None, first_per_s: float | None, slo: Slo | None) -> None:
    """Raise LaptimeError for what can't be asked together. Worth knowing before a server is looked for."""
    if resume and first_per_s is not None:
        raise LaptimeError("`resume`: can't go on with a search; leave `find_load` out, or name a new `out`")
    if resume and out is None:
        raise LaptimeError("`resume`: goes with `out`, the folder to go on with")
    if first_per_s is not None and slo is None:
        raise LaptimeError("`find_load`: needs `slo`, as in `slo` ttft=200ms,tpot=30ms")


class _Bench:
    """One run: the session, the folder, and the numbers of prompts that were used."""

    def __init__(self, request: ServeRequest, url: str, out: Path | None, progress: Progress) -> None:
        self.request = request
        self.endpoint = Endpoint(url, request.headers, request.timeout_s)
        self.out = out
        self.progress = progress
        self.nonce = "" if request.fixed_prompt else secrets.token_hex(4)
        self.asked = 0
        self.repeats: Counter[tuple[str, str]] = Counter()
        self.environment = describe_host()
        self.earlier = Earlier()
        if request.resume and out is not None:
            self.earlier = read_earlier(out, self._config())
            self.asked, self.repeats = self.earlier.next_number, self.earlier.repeats

    async def run(self) -> ServeReport:
        request = self.request
        info = new_info(sys.argv, self._config(), self.environment, self._session())
        async with session() as opened:
            warm_up = await self._warm_up(opened)  # before the folder: where nobody answers, none is left behind
            with Keeper(
                None if self.out is None else RunFolder(self.out, info, WORKER, resume=request.resume)
            ) as keeper:
                loads = {load.name: load for load in request.loads}
                for lacking in self.earlier.without_sample:
                    load = loads.get(lacking.load)
                    keeper.put_sample(lacking, self._config() | (load.config if load is not None else {}))
                for answered, config in warm_up:
                    keeper.put(answered, config)
                levels = [await self._level(opened, keeper, load) for load in request.loads]
                largest, visited = await self._search(opened, keeper)
        return ServeReport(
            schema=SCHEMA,
            url=self.endpoint.url,
            api=request.asking.api,
            model=request.asking.model,
            folder=None if self.out is None else str(self.out),
            config=self._config(),
            slo=request.slo,
            warmup=request.warmup,
            levels=[*levels, *visited],
            largest=largest,
            findings=findings_of([*levels, *visited], fixed_prompts=request.fixed_prompt),
            environment=self.environment,
        )

    async def _level(self, opened: aiohttp.ClientSession, keeper: Keeper, load: Load) -> Level:
        before = self.earlier.of(load)
        run = await self._load(opened, keeper, rest_of(load, len(before)))
        keeper.put_wakes(load.name, run.lateness_ms)
        return level_of(load, together(before, run), self.request.slo)

    async def _warm_up(self, opened: aiohttp.ClientSession) -> list[tuple[RequestSample, dict[str, Scalar]]]:
        """The requests before anything counts, with their configuration. Raises LaptimeError if none is answered."""
        if not self.request.warmup:
            return []
        load = concurrency(1, self.request.warmup)
        run = await self._load(opened, None, load, warm_up=True)
        if all(request.outcome != "finished" for request in run.requests):
            last = run.requests[-1]
            raise LaptimeError(
                f"{self.endpoint.url}: no warm-up request was answered ({last.error}); look at the server"
            )
        return [(request, self._config() | load.config) for request in run.requests]

    async def _load(
        self, opened: aiohttp.ClientSession, keeper: Keeper | None, load: Load, *, warm_up: bool = False
    ) -> LoadRun:
        phase, of = ("warm-up" if warm_up else load.name), load.requests
        config = self._config() | load.config
        done = 0

        def note(request: RequestSample) -> None:
            nonlocal done
            done += 1
            if keeper is not None:
                keeper.put(request, config)
            self.progress(phase, done, of)

        return await run_load(opened, self.endpoint, load, self._asked(load, warm_up=warm_up), note)

    async def _search(self, opened: aiohttp.ClientSession, keeper: Keeper) -> tuple[LargestLoad | None, list[Level]]:
        request, slo = self.request, self.request.slo
        if request.first_per_s is None or slo is None:
            return None, []
        levels: list[Level] = []
        loop = asyncio.get_running_loop()

        async def visit(rate: float) -> tuple[Interval, bool]:
            load = poisson(rate, request.search_requests, request.seed + len(levels))
            run = await self._load(opened, keeper, load)
            keeper.put_wakes(load.name, run.lateness_ms)
            level = level_of(load, run, slo)
            levels.append(level)
            assert level.good is not None
            return level.good, is_bottleneck(level)

        def from_thread(rate: float) -> tuple[Interval, bool]:
            return asyncio.run_coroutine_threadsafe(visit(rate), loop).result()

        largest = await asyncio.to_thread(largest_load, from_thread, request.first_per_s, slo)
        return largest, levels

    def _questions(self, how_many: int) -> list[Question]:
        first, self.asked = self.asked, self.asked + how_many
        given = self.request.questions
        if given:
            return [given[place % len(given)] for place in range(first, first + how_many)]
        asking, seed = self.request.asking, self.request.seed
        return [synthetic(asking, place, self.nonce, seed) for place in range(first, first + how_many)]

    def _asked(self, load: Load, *, warm_up: bool) -> list[tuple[Question, int]]:
        """The questions of a load, each with its repeat: under the same load again it is the next one."""
        asked: list[tuple[Question, int]] = []
        for question in self._questions(load.requests):
            key = (question.id, "warm-up" if warm_up else load.name)
            repeat = self.repeats[key]
            self.repeats[key] += 1
            asked.append((question, -1 - repeat if warm_up else repeat))
        return asked

    def _config(self) -> dict[str, Scalar]:
        asking = self.request.asking
        made_up = not self.request.questions
        return {
            "api": asking.api,
            "model": asking.model,
            "prompt_tokens": asking.prompt_tokens if made_up else None,
            "new_tokens": asking.new_tokens,
            "extra": msgspec.json.encode(asking.extra).decode() if asking.extra else None,
            "fixed_prompt": self.request.fixed_prompt or None,
        }

    def _session(self) -> dict[str, Scalar]:
        request = self.request
        return {
            "url": self.endpoint.url,
            "timeout_s": request.timeout_s,
            "warmup": request.warmup,
            "seed": request.seed,
            "nonce": self.nonce or None,
            "planned": sum(load.requests for load in request.loads),
            "boot_id": boot_id(),
        }
