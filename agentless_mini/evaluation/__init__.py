"""`amini eval`: the chain over the instances of a benchmark, graded by the official harness.

`dataset` parts what the chain may know of an instance from the answer; `attempt` runs the chain on one, and on many;
`ports` says what it needs of a machine that has an instance's image, `testbeds` is that on Docker, `cluster` on the
nodes of a Ray cluster. `harness` is the only file that imports swebench, and runs in a process of its own.
"""
