"""What a run holds, and where: one tidy record, the run folder, figures as data."""
