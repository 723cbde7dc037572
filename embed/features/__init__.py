"""Inputs of the encoders, computed once: parsed structures, drawn pictures and the output of frozen models."""
