"""jsharp: self-improvement of language models by sharpening (arXiv 2412.01951).

The library knows no theorem and no figure: those live in `theory` and `experiments`.
Dimension names used in every shape are listed in `jsharp.policy`.
"""
