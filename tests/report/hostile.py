"""Strings that try to become markup, script or escape codes: every page must show them and nothing more."""

HOSTILE = [
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"'><svg onload=window.pwned=1>",
    "]]><!--<script>",
    "\u2028window.pwned=1\u2029",
    "\ud800 lone",
    "nul\x00bell\x07",
    "{{7*7}}${7*7}",
    "x" * 10_000,
]
