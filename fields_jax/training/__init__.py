"""Training: state, optimiser, step, mapping over devices, checkpoints, loop."""
