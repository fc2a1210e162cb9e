"""One false-alarm budget for the suite, split evenly over its statistical asserts.

With correct code, a run with fresh keys fails with probability at most
SUITE_FALSE_ALARM (union bound). `test_levels.py` counts the asserts.
"""

SUITE_FALSE_ALARM = 1e-3
STATISTICAL_ASSERTS = 40
LEVEL = SUITE_FALSE_ALARM / STATISTICAL_ASSERTS
