"""People: populations they come from, and how they answer.

`simulated.Normal` draws people from a normal distribution, `anes96.Anes96Population` takes real ones from
the American National Election Study of 1996.
"""
