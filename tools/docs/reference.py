"""Write docs/reference: a page for every verb from the command line, one for every public name from its docstrings.

python -m tools.docs.reference
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import laptime
from laptime.cli.typer_line import imported_verb
from laptime.cli.verbs import VERBS
from laptime.errors import LaptimeError

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
MARKUP = re.compile(r"[|<>*_]")


def main() -> None:
    """Write all pages anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for verb in (verb for verbs in VERBS.values() for verb in verbs):
        (FOLDER / f"laptime-{verb}.md").write_text(verb_page(verb), encoding="utf-8")
    for name in sorted(laptime.__all__, key=str.lower):
        page = None if name.startswith("_") else python_page(name)
        if page is not None:
            (FOLDER / f"python-{name}.md").write_text(page, encoding="utf-8")


def verb_page(verb: str) -> str:
    """Every option of a verb, and of its sub-commands."""
    command = imported_verb(verb)
    inner = getattr(command, "commands", None)
    made = "After this page you know every option of this verb. It is made from the command line itself.\n"
    parts = [f"# laptime {verb}\n", made]
    parts += [_verb_part(f"{verb} {name}".strip(), one) for name, one in (inner.items() if inner else [("", command)])]
    return "\n".join(parts)


def _verb_part(name: str, command: Any) -> str:
    lines = [f"## laptime {name}\n"] if " " in name else []
    for paragraph in (command.help or "").split("\n\n"):
        example = paragraph.partition("Example: ")
        lines.append(f"```\n{example[2].strip()}\n```\n" if example[1] and not example[0].strip() else f"{paragraph}\n")
    rows = [_option_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        lines += ["| option | meaning | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _option_row(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts]) if parameter.param_type_name == "option" else ""
    shown = names or parameter.metavar or parameter.name.upper()
    metavar = f" {parameter.metavar}" if names and parameter.metavar else ""
    default = parameter.default
    plain = default is None or default == "" or default is False or callable(default)
    default = "" if plain else getattr(default, "value", default)
    words = _cell(getattr(parameter, "help", "") or "")
    option = f"{shown}{metavar}".replace("|", "\\|")
    return f"| `{option}` | {words} | {f'`{default}`' if default != '' else ''} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def python_page(name: str) -> str | None:
    """A public name with its signature and docstrings; None where it needs what isn't installed."""
    try:
        value = getattr(laptime, name)
    except LaptimeError:
        return None
    parts = [f"# laptime.{name}\n", "After this page you know how to call it. It is made from its docstring.\n"]
    parts.append(_name_part(f"laptime.{name}", value))
    if inspect.isclass(value) and not issubclass(value, Exception):
        members = vars(value).items()
        public = [(one, of) for one, of in members if not one.startswith("_") and inspect.isfunction(of)]
        parts += [f"## {one}\n\n{_name_part(f'{name}.{one}', of)}" for one, of in public if of.__doc__]
    return "\n".join(parts)


def _name_part(name: str, value: Any) -> str:
    try:
        signature = re.sub(r"<function <lambda> at 0x[0-9a-f]+>", "...", str(inspect.signature(value)))
    except (TypeError, ValueError):
        signature = ""
    doc = inspect.cleandoc(value.__doc__ or "")
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
    lines = [f"```text\n{name}{_wrapped(signature)}\n```\n"]
    for paragraph in doc.split("\n\n"):
        if paragraph.startswith("Example: "):
            lines.append(f"```python\n{paragraph.removeprefix('Example: ')}\n```\n")
        else:
            text = "\n".join(_argument(line) for line in paragraph.splitlines())
            lines.append(re.sub(r"(^- .*\n)(?=Raises)", r"\1\n", text, flags=re.MULTILINE) + "\n")
    return "\n".join(lines)


def _argument(line: str) -> str:
    """A docstring's line; `name: words` becomes an item of a list."""
    item = re.match(r"([a-z_]+(?:, [a-z_]+)*): (.*)", line)
    return f"- `{item[1]}`: {_cell(item[2])}" if item else _cell(line)


def _wrapped(signature: str) -> str:
    if len(signature) < 80:
        return signature
    inside, _, after = signature[1:].rpartition(")")
    return "(\n    " + re.sub(r", (?=\*|[a-z_]+:)", ",\n    ", inside) + f"\n){after}"


if __name__ == "__main__":
    main()
