"""What is sent into boxes and runs there by itself, on the standard library of Python 3.8 or newer."""
