"""Environments in which an assistant can change what people prefer."""
