"""Small in-context learners trained from scratch, in which task vectors form."""
