"""The format of a bundle: writing, reading and verifying it."""
