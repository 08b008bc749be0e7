"""Language models by where they run.

local    weights on this machine, in process
served   an OpenAI-compatible server
smollm2  SmolLM2-135M-Instruct, from the cache that `make language` fills
tiny     a random Llama of a few thousand parameters, for tests and first steps
"""
