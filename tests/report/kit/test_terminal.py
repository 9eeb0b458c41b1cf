"""Where the lines of a report break, and what its console does to a number."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.text import Text

from laptime.report.kit.numbers import count, text
from laptime.report.kit.terminal import ReportConsole, columns_table, with_remarks


def printed(renderable: object, width: int) -> list[str]:
    out = io.StringIO()
    ReportConsole(file=out, width=width, color_system=None).print(renderable)
    return out.getvalue().splitlines()


@given(st.lists(st.floats(1, 9e7), min_size=1, max_size=30), st.integers(24, 100))
def test_a_line_breaks_neither_inside_a_number_nor_before_its_unit(values, width):
    said = [text(value, "ms") for value in values] + [count(value) for value in values]
    lines = printed(Group(Text("takes " + ", then ".join(said))), width)
    assert " ".join(line.rstrip() for line in lines) == "takes " + ", then ".join(said)
    for one in said:
        assert any(one in line for line in lines)


def test_the_same_holds_in_tables_and_remarks():
    table = columns_table("what")
    for least in range(5):
        table.add_row(Text("x" * least + " the median call takes " + text(3688, "ms")))
    for width in range(18, 40):
        lines = printed(with_remarks(table, [f"its first token {text(1937, 'ms')}"]), width)
        assert sum(text(3688, "ms") in line for line in lines) == 5
        assert sum(text(1937, "ms") in line for line in lines) == 1
