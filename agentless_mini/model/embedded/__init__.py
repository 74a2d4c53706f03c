"""The embedded model: llama.cpp inside amini, for machines without a GPU and without a server.

A model of 135 million parameters judges a change better than it writes one: it scores every change that people make to
a line (`mutants`) in a second copy of the code. Models that write are asked over HTTP: `model.llama_server`.
"""
