"""Laboratories: what a server does when it is asked, told by a backend that simulates it or has it run."""
