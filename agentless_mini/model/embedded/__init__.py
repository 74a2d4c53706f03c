"""The embedded model: llama.cpp inside amini, for machines without a GPU and without a server.

A model of 135 million parameters judges a change better than it writes one, so it writes nothing here. The code is
shown to it twice, before and after a fix, and every change that people make to a line (`mutants`) is scored in the
place of the second copy's line. Models that can write an answer are asked over HTTP: `model.llama_server`.
"""
