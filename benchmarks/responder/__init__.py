"""A fast S3 responder in memory, for measurements: adjustable latency, faults, and counts of what was asked.

It checks no credentials and keeps nothing. ``python -m benchmarks.responder --port 0`` prints its port;
:class:`benchmarks.responder.process.Responder` starts it as a subprocess and talks to its control endpoint.
"""
