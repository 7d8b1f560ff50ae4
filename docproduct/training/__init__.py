"""Training of any model: the loop, what a system gives it, settings and flags, a run's folder, gradients, devices."""
