"""The page and the terminal of a load say the same, and trust no word of the server."""

from __future__ import annotations

import io
from html import unescape

import pytest

pytest.importorskip("aiohttp")

from rich.console import Console

from laptime import page
from laptime.engines.bench import ServeRequest, serve_bench
from laptime.engines.loads import concurrency
from laptime.engines.questions import Asking
from laptime.engines.result import Slo
from laptime.report.kit.numbers import plain
from laptime.report.results import report as terminal
from laptime.report.serve.words import headline
from tests.engines.known_server import Plan, running

HOSTILE = "<script>alert(1)</script>[red]"


def test_both_faces_say_the_headline_and_escape_the_model():
    with running(lambda n: Plan(status=503) if n == 3 else Plan()) as server:
        asking = Asking(api="chat", model=HOSTILE, prompt_tokens=8, new_tokens=8)
        request = ServeRequest(url=server.url, asking=asking, loads=[concurrency(2, 6)], warmup=1, slo=Slo(ttft_ms=9e4))
        result = serve_bench(request, None)
    shown = page(result)
    console = Console(file=io.StringIO(), width=300)
    console.print(terminal(result))
    written = console.file.getvalue()
    assert headline(result) in written and headline(result) in unescape(shown)
    assert HOSTILE in written and HOSTILE not in shown  # markup of neither kind acts
    for said in (written, unescape(shown)):
        assert "1 of 6 requests failed (1 http-error)" in said
        assert "83.3" in said  # good: five of six
        assert f"of requests were good, {plain(result.levels[0].goodput_per_s, 3)} a second" in said
