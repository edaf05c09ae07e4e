"""Automata, hidden Markov models and n-grams: what the formal languages are made of."""
