"""Benchmarks of s3gc beside public tools: ``python -m benchmarks.run``. Not part of any distribution."""
