"""Families of tasks, one file each: a frozen config that draws, and the row that registers it.

`offset.py` is the one to read first. `shared/` has what the formal languages are made of.
"""
