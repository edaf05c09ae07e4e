"""What experiments share: how vectors and learners are made for them, and their presets."""
