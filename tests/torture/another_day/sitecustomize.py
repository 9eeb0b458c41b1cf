"""Python reads this when it starts and this folder is in PYTHONPATH: the calendar is some days off, clocks go on."""

import os
import time

SHIFT_S = float(os.environ.get("LAPTIME_TORTURE_SHIFT_S", "0"))
if SHIFT_S:
    _today = time.time
    time.time = lambda: _today() + SHIFT_S
