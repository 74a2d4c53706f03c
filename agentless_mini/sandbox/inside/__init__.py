"""What runs inside a box, before and around the untrusted programs. Its text is sent there: see `host.program`.

It is run by the Python that the box has (3.7 or newer, the standard library alone) and imports nothing else of this
package. The rest of the package never calls it.
"""
