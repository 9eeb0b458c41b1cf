"""Tables as people write them are read as they are meant, or refused in one line with the place."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.data.frame import read_frame
from laptime.data.number_texts import numbers_of
from laptime.errors import LaptimeError
from laptime.estimate.table.reading import read_table
from laptime.estimate.table.table import make_schema, target_values

ROWS = [(1, 128, 1.25), (2, 256, 2.5), (4, 1024, 5.75)]
PLAIN = pl.DataFrame(ROWS, schema=["batch", "seq", "took_ms"], orient="row")


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "table.csv"
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_usual_separator(tmp_path: Path, separator: str) -> None:
    lines = [separator.join(map(str, row)) for row in [PLAIN.columns, *ROWS]]
    assert read_table(written(tmp_path, "\n".join(lines))).equals(PLAIN)


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    lines = ["batch;seq;took_ms", *(f"{b};{s};{str(t).replace('.', ',')}" for b, s, t in ROWS)]
    assert read_table(written(tmp_path, "\n".join(lines))).equals(PLAIN)


def test_blanks_thousands_percent_and_missing_words(tmp_path: Path) -> None:
    text = 'batch, seq ,used,took_ms\n1, 128,12.5%,1.25\n2,"1,024",50 %, 2.5\n4,256,-,N/A\n'
    frame = read_table(written(tmp_path, text))
    assert frame.columns == ["batch", "seq", "used", "took_ms"]
    assert frame["seq"].to_list() == [128, 1024, 256]
    assert frame["used"].to_list() == [12.5, 50, None]
    assert frame["took_ms"].to_list() == [1.25, 2.5, None]


@given(st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.none()), min_size=1))
def test_written_numbers_come_back(numbers: list[float | None]) -> None:
    read = numbers_of(pl.Series("x", [None if one is None else f" {one!r}" for one in numbers], dtype=pl.String))
    if any(one is not None for one in numbers):
        assert read.to_list() == numbers


@pytest.mark.parametrize("names", [["a100", "h100"], ["1x8", "1x16"], ["8", "auto"], ["-", ""], ["1,2,3"]])
def test_names_stay_names(names: list[str]) -> None:
    assert numbers_of(pl.Series("x", names)).to_list() == names


def table(separator: str, *columns: list[str]) -> str:
    return "\n".join(separator.join(cells) for cells in zip(*columns, strict=True)) + "\n"


@pytest.mark.parametrize(
    ("columns", "times"),
    [
        ([["at", "01.02.2024", "03.02.2024"], ["took_ms", "10,5", "1,125"]], [10.5, 1.125]),
        ([["version", "1.2", "1.2"], ["took_ms", "10,5", "1.024,125"]], [10.5, 1024.125]),
        ([["gpus", "0,1", "0"], ["took_ms", "10.50", "1.125"]], [10.5, 1.125]),
        ([["host", "10.0.0.1", "10.0.0.2"], ["took_ms", "0,125", "1,125"]], [0.125, 1.125]),
        ([["load", "0.5", "0.25"], ["took_ms", "10.500", "1.125"]], [10.5, 1.125]),
        ([["used", "12,5 %", "50 %"], ["took_ms", "10,500", "1,125"]], [10.5, 1.125]),
        ([["used", "12,5 %", "50 %"], ["took_ms", "1.024", "128"]], [1024, 128]),
        ([["used", "1", "2"], ["took_ms", "1,024.5", "128"]], [1024.5, 128]),
        ([["batch", "1", "2"], ["took_ms", "10.500", "22.250"]], [10.5, 22.25]),
    ],
)
def test_each_column_tells_what_its_comma_means(tmp_path: Path, columns: list[list[str]], times: list[float]) -> None:
    assert read_table(written(tmp_path, table(";", *columns)))["took_ms"].to_list() == times


@pytest.mark.parametrize(
    "columns",
    [
        [["batch", "1", "2"], ["took_ms", "10,500", "22,250"]],
        [["gpus", "0,1", "0"], ["took_ms", "10.500", "22.250"]],
        [["at", "01.02.2024", "03.02.2024"], ["took_ms", "10,500", "22,250"]],
        [["version", "1.2", "1.2"], ["took_ms", "10,500", "22,250"]],
        [["batch", "1", "2"], ["took_ms", "10.50", "22,250"]],
    ],
)
def test_what_may_be_a_thousand_times_larger_is_refused(tmp_path: Path, columns: list[list[str]]) -> None:
    with pytest.raises(LaptimeError, match=r"took_ms: (10|22)[.,]\d{3} may be .* write a point before fractions"):
        read_table(written(tmp_path, table(";", *columns)))


ASIDE = st.sampled_from(
    [["0,1", "0"], ["1,22", "1,2"], ["01.02.2024", ""], ["1.2", "1.3"], ["10.0.0.1", "x"], ["1", "2"]]
)


@given(
    st.lists(st.floats(1, 999), min_size=1, max_size=5) | st.lists(st.floats(0, 999_999), min_size=1, max_size=5),
    st.sampled_from([3, 1, 2, 4]),
    st.sampled_from(["10.500", "10,500"]),
    st.booleans(),
    st.sampled_from(";\t|"),
    ASIDE,
)
def test_no_number_becomes_a_thousand_times_larger(
    numbers: list[float], digits: int, style: str, grouped: bool, separator: str, aside: list[str]
) -> None:
    """Whatever stands beside a column of one style: it is read as it was meant, or refused."""
    swapped = str.maketrans(",.", ".,") if style == "10,500" else {}
    texts = [(f"{one:,.{digits}f}" if grouped else f"{one:.{digits}f}").translate(swapped) for one in numbers]
    others = [aside[row % 2] for row in range(len(texts))]
    with TemporaryDirectory() as folder:
        file = written(Path(folder), table(separator, ["aside", *others], ["took_ms", *texts]))
        try:
            read = read_table(file)["took_ms"].to_list()
        except LaptimeError as error:
            assert " may be " in str(error)
        else:
            assert read == [float(f"{one:.{digits}f}") for one in numbers]


def test_a_comma_between_columns_says_that_a_point_begins_fractions(tmp_path: Path) -> None:
    frame = read_table(written(tmp_path, 'gpus,took_ms\n"0,1",10.500\n"0",1.125\n'))
    assert frame["took_ms"].to_list() == [10.5, 1.125]
    with pytest.raises(LaptimeError, match=r"took_ms: 10,500 may be 10\.5 or 10500"):
        read_table(written(tmp_path, 'load,took_ms\n"0,5","10,500"\n"0,25","1,125"\n'))


def test_a_table_of_very_many_columns_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(LaptimeError, match=r"has 10,001 columns, and at most 10,000 are read"):
        read_table(written(tmp_path, ",".join(f"c{one}" for one in range(10_001)) + "\n1\n"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_what_is_no_utf_8_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(LaptimeError, match=r"table\.csv(, line 1)?: .*save the table as UTF-8"):
        read_table(written(tmp_path, "größe,took_ms\n1,2\n", encoding))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("batch;seq;took_ms\n1;128;1,25\n2;256;2,5\n4;1.024;5,75\n", "utf-8-sig"),
        ("batch\tseq\ttook_ms\r\n1\t128\t1.25\r\n2\t256\t2.5\r\n4\t1024\t5.75\r\n", "utf-16"),
        ("sep=;\nbatch;seq;took_ms\n1;128;1.25\n\n2;256;2.5\n4;1024;5.75\n\n", "utf-8"),
        ("# written by a bench\n# on a host\nbatch,seq,took_ms\n1,128,1.25\n2,256,2.5\n4,1024,5.75", "utf-8"),
        ("# written by a bench\n\nbatch,seq,took_ms\n1,128,1.25\n2,256,2.5\n4,1024,5.75", "utf-8"),
        ("\n  \nbatch,seq,took_ms\n1,128,1.25\n   \n2,256,2.5\n,,\n4,1024,5.75\n \t\n", "utf-8"),
        ("batch,seq,took_ms\r1,128,1.25\n2,256,2.5\n4,1024,5.75\n", "utf-8"),
        ("sep=;\nbatch,seq,took_ms\n1,128,1.25\n2,256,2.5\n4,1024,5.75\n", "utf-8"),
        ('"sep=;"\nbatch;seq;took_ms\n1;128;1.25\n2;256;2.5\n4;1024;5.75\n', "utf-8"),
        ("batch,seq,took_ms\r1,128,1.25\r2,256,2.5\r4,1024,5.75\r", "utf-8"),
    ],
)
def test_other_encodings_line_ends_and_lines_before_the_names(tmp_path: Path, text: str, encoding: str) -> None:
    assert read_table(written(tmp_path, text, encoding)).cast(PLAIN.schema).equals(PLAIN)


def test_a_line_without_anything_is_no_row_of_one_column_either(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "took_ms\n1.5\n\n2.5\n  \n"))["took_ms"].to_list() == [1.5, 2.5]
    assert read_table(written(tmp_path, 'took_ms\n1.5\n""\n2.5\n'))["took_ms"].to_list() == [1.5, None, 2.5]


@pytest.mark.parametrize("number", ["2.5", "2,5"])
def test_the_separator_is_what_the_rows_share(tmp_path: Path, number: str) -> None:
    """A comma in a name separates nothing, and a decimal comma in each row doesn't either."""
    frame = read_table(written(tmp_path, f"batch;time, all;seq\n1;{number};8\n2;{number};8\n"))
    assert frame.columns == ["batch", "time, all", "seq"]
    assert frame["time, all"].to_list() == [2.5, 2.5]


@pytest.mark.parametrize("told", ['"', "é"])
def test_what_cannot_separate_is_refused(tmp_path: Path, told: str) -> None:
    with pytest.raises(LaptimeError, match=f"line 1: {told} can't separate columns; write sep=, or sep=; there"):
        read_table(written(tmp_path, f"sep={told}\nbatch,took_ms\n1,2\n"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_samples_are_read_alike(tmp_path: Path, separator: str) -> None:
    """What `fit` reads, `audit`, `compare` and `report` read too, and the same figures."""
    point = "," if separator == ";" else "."
    rows = [["sample_id", "total_ms", "output_tokens", "itl_ms"], ["007", "1.5", "16.0", "2.5"], ["8", "N/A", "", ""]]
    lines = [separator.join(cells).replace(".", point) for cells in rows]
    frame = read_frame(written(tmp_path, "\n".join(lines)), bulky=True)
    assert frame["sample_id"].to_list() == ["007", "8"]
    assert frame["total_ms"].to_list() == [1.5, None]
    assert frame["output_tokens"].to_list() == [16, None]
    assert frame["itl_ms"].to_list() == [[2.5], None]


def test_lists_as_python_writes_them(tmp_path: Path) -> None:
    file = written(tmp_path, 'total_ms,itl_ms\n9,"[2.5, 3.0]"\n8,[]\n7,2.5;3\n')
    assert read_frame(file, bulky=True)["itl_ms"].to_list() == [[2.5, 3.0], [], [2.5, 3.0]]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("fast,4,", "column total_ms, row 2: 'fast' is no number"),
        ("228 ms,4,", "column total_ms, row 2: '228 ms' is no number"),
        ("1,4.5,", "column output_tokens, row 2: 4.5 is no whole number"),
        ("1,4,2;x", "column itl_ms, row 2: \"['2', 'x']\" is no list of numbers"),
    ],
)
def test_the_row_of_a_bad_value_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(LaptimeError) as caught:
        read_frame(written(tmp_path, f"total_ms,output_tokens,itl_ms\n1,4,2;3\n{line}\n"), bulky=True)
    assert complaint in str(caught.value)


def test_a_longer_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaptimeError, match="line 3 has 4 values, but the first line names 3"):
        read_table(written(tmp_path, "batch,seq,took_ms\n1,2,3\n1,2,3,4\n"))


def test_a_text_among_numbers_is_no_name() -> None:
    frame = pl.DataFrame({"batch": ["1", "2", "auto"], "took_ms": ["1.0", "OOM", "2.0"]})
    with pytest.raises(LaptimeError, match=r"'batch' holds numbers and text \('auto', first in row 3, 1 of 3 rows\)"):
        make_schema(frame, target="took_ms", features=["batch"], categorical=[], group=[])
    assert make_schema(frame, target="took_ms", features=[], categorical=["batch"], group=[]).categorical == ["batch"]
    with pytest.raises(LaptimeError, match=r"'took_ms' holds text \('OOM', first in row 2, 1 of 3 rows\); drop"):
        target_values(frame, "took_ms")


def test_a_text_column_with_nothing_in_it_has_one_level():
    """Rows without the target are left out, and with them perhaps all of a column's texts (torture, reading:0:1012)."""
    frame = pl.DataFrame({"took_ms": [1.0, 2.0], "word": pl.Series([None, None], dtype=pl.String)})
    schema = make_schema(frame, target="took_ms", features=["word"], categorical=[], group=[])
    assert schema.levels == {"word": ["null"]}


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    for names in (
        "batch,took_ms,took_ms",
        'batch,took_ms,"took_ms"',
        "batch;took_ms; took_ms",
        "sep=;\nbatch;took_ms;took_ms",
    ):
        values = ";".join("123") if ";" in names else ",".join("123")
        with pytest.raises(LaptimeError, match="column took_ms is there twice"):
            read_table(written(tmp_path, f"{names}\n{values}\n"))
    assert read_table(written(tmp_path, "batch,took_ms,,\n1,2,,\n")).height == 1, "columns without a name"


@pytest.mark.parametrize("line", ['"7,128,1.5', '7,"128,1.5', '7,128,"1.5', '7,128,1.5"'])
@pytest.mark.parametrize("place", [0, 5, 19])
def test_the_line_of_an_open_quote_is_named(tmp_path: Path, line: str, place: int) -> None:
    lines = ["batch,seq,took_ms", *(f"{n},128,1.{n}" for n in range(20))]
    lines[place + 1] = line
    try:
        read = read_table(written(tmp_path, "\n".join(lines) + "\n"))
    except LaptimeError as error:
        assert re.search(rf"table\.csv: line {place + 2} holds a quote .* that is not closed", str(error))
    else:  # to an older polars a quote behind a value is a part of it
        assert line.endswith('"') and read["took_ms"][place] == '1.5"'
