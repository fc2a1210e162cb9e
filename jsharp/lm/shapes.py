"""Padded sizes, few enough that few shapes are ever compiled."""


def bucket(size: int, least: int = 1) -> int:
    """The first of least, 2 least, 4 least, ... that is no smaller than `size`."""
    while least < size:
        least *= 2
    return least
