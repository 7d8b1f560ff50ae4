"""Benchmarks: ours and the peers side by side in one run; each ends with one line of JSON."""
