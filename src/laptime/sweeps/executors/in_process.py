"""One worker, in this process."""

from __future__ import annotations

from laptime.errors import LaptimeError
from laptime.sweeps.ledger import Ledger
from laptime.sweeps.messages import Hire, VisitEnd


def run(ledger: Ledger, hire: Hire) -> None:
    """Work until nothing is left. Raises LaptimeError when the GPU is in a state that this process can't leave."""
    from laptime.sweeps.worker import Worker

    worker = Worker(hire)
    ledger.write(worker.name, worker.started())
    while (visit := ledger.take()) is not None:
        for message in worker.visit(visit):
            ledger.write(worker.name, message)
            broken = isinstance(message, VisitEnd) and message.broken
        ledger.finished(visit)
        if broken:
            raise LaptimeError(
                "the GPU reported an error that this process can't recover from; the configuration is recorded as "
                "failed and what was finished is kept: go on with --resume"
            )
