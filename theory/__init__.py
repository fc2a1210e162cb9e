"""The paper, checked: exact float64 quantities, laws, and one function per claim.

Source: Huang et al., "Self-Improvement in Language Models: The Sharpening Mechanism",
arXiv 2412.01951. A policy is a table `pi` of shape [X Y] whose rows are distributions,
and `mu` [X] is the prompt distribution. Everything runs under `jax.enable_x64(True)`.
"""
