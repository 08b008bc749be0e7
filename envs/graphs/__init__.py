"""Influence graphs between people."""
