"""The generated reference, and the runner of a page's blocks."""

from __future__ import annotations

import pytest
from tools.docs import reference, run_blocks

import laptime
from laptime.cli.verbs import VERBS


def test_every_verb_and_every_public_name_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    reference.main()
    pages = {path.stem: path.read_text() for path in tmp_path.glob("*.md")}
    assert {f"laptime-{verb}" for verbs in VERBS.values() for verb in verbs} <= set(pages)
    assert {f"python-{name}" for name in laptime.__all__ if not name.startswith("_")} <= set(pages)
    assert "`--new-tokens" in pages["laptime-profile"] and "| `--junit FILE` |" in pages["laptime-audit"]
    assert "- `source`: a run folder" in pages["python-audit"]
    assert all(len(page.split()) <= 1500 for page in pages.values())


@pytest.mark.parametrize(
    ("blocks", "code"),
    [
        ("```sh\ntrue\nfalse # exit 1\n```\n```python\nassert open('a.yaml').read()\n```\n", 1),
        ("```yaml\n# a.yaml\nx: 1\n```\n```python\nassert open('a.yaml').read()\n```\n", 0),
        ("```sh\nfalse\n```\n", 1),
        ("```\nfalse\n```\n", 0),
        ("```sh\ntest -f none || test $? = 1\nlaptime --version\n```\n", 0),
    ],
)
def test_blocks_run_in_order_and_the_first_that_fails_is_named(tmp_path, blocks, code, capfd):
    page = tmp_path / "page.md"
    page.write_text(blocks)
    assert run_blocks.main(str(page)) == code
    assert ("this block ended with" in capfd.readouterr().err) == bool(code)
