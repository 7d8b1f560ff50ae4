"""Building blocks without a task."""
