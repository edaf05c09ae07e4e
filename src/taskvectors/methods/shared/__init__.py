"""What several methods share: the run context, candidates and their choice, plans, bases."""
