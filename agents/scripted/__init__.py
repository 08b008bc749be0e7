"""Policies that take a seat: scripted ones for now."""
