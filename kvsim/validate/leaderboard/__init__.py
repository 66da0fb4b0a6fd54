"""Runs of real engines that several simulators predicted: what each said, and who came how near."""
