"""Ask a trace what the GPU waited for.

python examples/read_a_trace.py [TRACE]
"""

import sys
from pathlib import Path

import laptime

shipped = Path(__file__).parents[1] / "tests" / "trace" / "data" / "decode-eager.json.gz"
trace = laptime.read_trace(sys.argv[1] if len(sys.argv) > 1 else shipped)

print(trace.headline)
for device in trace.devices:
    print(f"GPU {device.device}: busy {device.busy_ns / 1e6:.1f} ms, idle {device.idle_ns / 1e6:.1f} ms")
    for cause in device.gaps.causes:
        print(f"  {cause.cause}: {cause.total_ns / 1e6:.1f} ms of idle time")
laptime.show(trace)
Path("trace.html").write_text(laptime.page(trace), encoding="utf-8")
