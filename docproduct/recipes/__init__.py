"""From a table to answers in one command: the demo on the bundled sample, and the starter generator."""
