"""Readouts: how the choice of a language model among given options is read.

readout          the interface
labels           letters or numbers of the options
expected_rating  a rating on a scale, read from the probabilities of its points
yes_no           one question for each option
statements       likelihood of whole statements, against the same without the persona
free_text        a generated reply, parsed strictly
"""
