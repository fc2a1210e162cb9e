"""Sharpening a language model: rounds of sampling, scoring, selecting and fitting."""
