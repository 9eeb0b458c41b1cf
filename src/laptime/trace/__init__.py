"""Traces: what did the GPU wait for? Readers yield one GpuTimeline; pure functions turn it into an analysis."""
