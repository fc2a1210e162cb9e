"""Def 3.1 and the theorems, measured exactly on transformers."""
