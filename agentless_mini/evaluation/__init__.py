"""`amini eval`: the chain over the instances of a benchmark, graded by the official harness.

`attempt` runs the chain on one, and on many; `ports` says what it needs of a machine that has an instance's image,
`testbeds` is that on Docker, `cluster` on Ray.
"""
