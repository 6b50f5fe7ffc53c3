"""Runs: what was asked, what happens, what came of it."""
