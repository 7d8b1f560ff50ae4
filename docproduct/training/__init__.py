"""Training, whatever the model: the loop, its settings and flags, a run's folder, gradients, optimizer and devices."""
