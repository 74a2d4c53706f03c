"""Single-file repair tasks made from working code: a function, a fault put into it, and what was seen to go wrong.

What a task is made of is observed: generated calls are run in a box on the right file and on the faulty one, and the
issue tells where the two differ. Nobody's intention is known here: what the right file does counts as right.

Foreign code runs in boxes alone; outside of them it is parsed, never imported.
"""
