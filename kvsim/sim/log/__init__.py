"""What is written down while time passes, and the laws that it must obey."""
