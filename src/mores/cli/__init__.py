"""The command line `mores`."""
