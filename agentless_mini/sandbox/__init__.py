"""Boxes for untrusted programs: adapters of `ports.Sandbox`."""
