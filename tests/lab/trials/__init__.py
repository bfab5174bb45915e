"""Trials of the whole: faults under a client's eyes, with the figures that came of them."""
