"""Around the steps of a run: refusals and checks before it, checkpoints and signals while it goes on."""
