"""Every table and figure of the two papers, and two surveys of our own, each declared as data.

An experiment is in the file of what it is about, and registered there. `shared/` has how vectors
and learners are made for them.
"""
