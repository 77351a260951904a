# Proves that a machine comes up: nothing to do.
