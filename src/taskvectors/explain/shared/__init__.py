"""What several analyses use: cases, results, and their mathematics."""
