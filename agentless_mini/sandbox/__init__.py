"""Boxes in which untrusted programs run, with an adapter for each way to make them: docker, bubblewrap, landlock.

What all of them guarantee, as far as the kernel keeps its word (each says at its top what more, and what less):

* No network but a loopback of its own; no capability; no new privilege. What a job writes has a size, and is gone with
  the box: nothing reaches the next one.
* A step ends at its time limit with all processes that it started, whatever session they are in; the box ends at its
  own limit, and when this process dies.
* A step's status and time are measured by a process that no step can end, trace or write to (see `inside.runner`).
  Output is bounded while it is read, and nothing of it is believed.

What none does:

* Withstand a hole in the kernel or the daemon. This is no virtual machine.
* Make a test honest: what runs in the process of the tests can make that process exit with 0 and write any result file
  of its own step. It cannot do so for another step that starts later with its own files put there, unless that one runs
  code of the tree, which a patch may have changed: a patch can always fail or pass itself.
* Be fair: a box may use all of its limits for all of its time, and slow down its neighbours (caches, disk).
"""
