"""What several controls share."""
