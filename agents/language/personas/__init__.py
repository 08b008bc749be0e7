"""Personas: who a language model is asked to be, as text in the system message.

persona        the interface; no persona; a fixed text
observed       from what the person observes of itself: its own values
traits         from traits and groups of the population
stated_belief  a belief stated in the system message, the control of a persona claim
phrases        cut points and phrases
"""
