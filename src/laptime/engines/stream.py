"""Server-sent events of OpenAI's protocol, from bytes as they come to what each event says. No input or output."""

from __future__ import annotations

from typing import Any

import msgspec

from laptime.data.record import Scalar


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the endpoint counts them; cached: those of the prompt that came from its cache."""

    prompt: int | None
    output: int | None
    cached: int | None


class Event(msgspec.Struct, frozen=True):
    """What one event said. content: text that the model wrote (reasoning and calls of tools too), "" for none."""

    content: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    engine: dict[str, Scalar] = {}
    error: str | None = None
    last: bool = False
    id: str | None = None


class EventStream:
    """Cuts bytes into events; a part of a line is kept until the rest comes."""

    def __init__(self) -> None:
        self._held = b""
        self._data: list[bytes] = []

    def feed(self, block: bytes) -> list[Event]:
        """The events that are complete with these bytes."""
        lines = (self._held + block).split(b"\n")
        self._held = lines.pop()
        events: list[Event] = []
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                events.append(read_event(b"\n".join(self._data)))
                self._data = []
        return events

    def end(self) -> list[Event]:
        """The event that the end of the stream completes, if there is one."""
        return self.feed(b"\n\n")


def read_event(data: bytes) -> Event:
    """One event of a stream, or a whole answer that wasn't streamed."""
    if data == b"[DONE]":
        return Event(last=True)
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Event(error=f"an event is no JSON: {error}")
    if not isinstance(value, dict):
        return Event(error="an event is no JSON object")
    if value.get("error"):
        return Event(error=_error_text(value["error"]))
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    reason = choice.get("finish_reason")
    return Event(
        content=_content(choice),
        finish_reason=reason if isinstance(reason, str) else None,
        usage=_usage(value.get("usage")),
        engine=_timings(value.get("timings")),
        id=name if isinstance(name := value.get("id"), str) else None,
    )


def _content(choice: dict[str, Any]) -> str:
    said = choice.get("delta") or choice.get("message")
    if not isinstance(said, dict):
        text = choice.get("text")
        return text if isinstance(text, str) else ""
    parts = [said.get(name) for name in ("reasoning_content", "reasoning", "content")]
    calls = said.get("tool_calls")
    return "".join(part for part in parts if isinstance(part, str)) + (str(calls) if calls else "")


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(_count(value.get("prompt_tokens")), _count(value.get("completion_tokens")), _count(cached))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _timings(value: Any) -> dict[str, Scalar]:
    """llama.cpp's own figures of the request, under its own names."""
    if not isinstance(value, dict):
        return {}
    return {f"timings.{name}": number for name, number in value.items() if isinstance(number, (int, float))}


def _error_text(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    return str(value)[:300]
