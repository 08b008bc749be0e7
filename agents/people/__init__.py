"""Populations and response models of people.

`NormalPopulation` samples values from a normal mixture, `Anes96Population` contains respondents of
the American National Election Study of 1996.
"""
