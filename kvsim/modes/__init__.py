"""What each mode runs and asks."""
