"""The public fakes of the ports: a model, a reward model and their HTTP server, sandboxes, testbeds.

They answer from scripts and functions, so that stages, the record and code that uses amini are tested against known
answers. Nothing in the product imports them.
"""
