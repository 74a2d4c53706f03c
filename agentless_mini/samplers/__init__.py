"""Samplers: adapters of the port `Sampler`."""
