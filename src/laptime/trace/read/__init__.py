"""Readers of traces: each knows one format and returns a GpuTimeline."""
