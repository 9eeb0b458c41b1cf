"""`python -m laptime`."""

from laptime.cli.main import main

main()
