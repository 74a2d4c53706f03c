"""Stages: async functions from data to data."""
