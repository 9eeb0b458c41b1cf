"""Where the lines of a report break, and what its console does to a number."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.text import Text

from laptime.report.kit.numbers import count, text
from laptime.report.kit.terminal import Column, ReportConsole, columns_table, with_remarks


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


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80])
def test_no_figure_is_cut_on_a_narrow_terminal(width):
    """Words are cut or wrap; where not even the figures fit beside each other, a row is a block."""
    table = columns_table(
        Column("kernel", narrow="cut", max_width=40), "where", *(Column(f"time {n}", numeric=True) for n in range(4)),
        Column(narrow="keep", min_width=12), title="Kernels",
    )  # fmt: skip
    figures = [f"{1234.5 + n}ms" for n in range(4)]
    for row in ("a_kernel_with_a_long_name<and, arguments>", "short"):
        table.add_row(row, "in the decoder's layers", *figures, "█" * 12)
    lines = printed(table, width)
    shown = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for figure in (*figures, "█" * 12):
        assert shown.count(figure) == 2
    assert "Kernels" in shown
    assert ("time 1: " in shown) == (width < 80)
