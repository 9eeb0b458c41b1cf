"""`laptime` and `python -m laptime`: signals are watched before anything else is imported."""

from laptime.cli.stop import leave_signals, watch_signals


def main() -> None:
    """Run the command line."""
    watch_signals()
    try:
        from laptime.cli.main import main as run

        run()
    finally:
        leave_signals()


if __name__ == "__main__":
    main()
