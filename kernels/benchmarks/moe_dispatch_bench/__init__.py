"""Timing of moe_dispatch beside measured floors and other implementations, on a GPU."""
