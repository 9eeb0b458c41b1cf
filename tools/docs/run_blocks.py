"""Run a page's code blocks as a reader would: in their order, in one empty folder.

    python -m tools.docs.run_blocks docs/tutorial.md

A block of `sh` is run by bash, one of `python` by this Python, one of `yaml` whose first line is `# NAME` is written to
that file. A block of another kind is what something prints, and isn't run. A line of `sh` that ends in `# exit 1` must
exit with 1. Ends with 1 at the first block that does something else.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main(page: str) -> int:
    """Run the blocks of a page. Returns the exit code."""
    text = Path(page).read_text(encoding="utf-8")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for kind, code in BLOCK.findall(text):
            if kind == "yaml":
                name = re.match(r"# ([\w.-]+)\n", code)
                if name:
                    (Path(folder) / name[1]).write_text(code, encoding="utf-8")
                continue
            done = _python(code, folder) if kind == "python" else _shell(code, folder)
            if done:
                print(f"{page}: this block ended with {done}:\n{code}", file=sys.stderr)
                return 1
    print(f"{page}: all blocks ran, {time.monotonic() - began:.0f} s")
    return 0


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _python(code: str, folder: str) -> int:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=_environment(), check=False).returncode


def _shell(code: str, folder: str) -> int:
    for line in code.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        expected = re.search(r"# exit (\d+)$", line)
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=_environment(), check=False).returncode
        if done != (int(expected[1]) if expected else 0):
            return done or -1
    return 0


if __name__ == "__main__":
    sys.exit(max(main(page) for page in sys.argv[1:]))
