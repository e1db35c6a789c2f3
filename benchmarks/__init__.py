"""Speed and memory of the parts: python -m benchmarks.<name> --json OUT."""
