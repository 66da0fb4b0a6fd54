"""From the configuration to the numbers that an engine runs on."""
