"""Models, the protocol that they keep, and checkpoints as folders."""
