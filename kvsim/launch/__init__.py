"""The line that starts a server, as people have it in their shell's history: vLLM's and SGLang's."""

from kvsim.launch.line import LaunchLine, read_engine_args, read_launch_line

__all__ = ["LaunchLine", "read_engine_args", "read_launch_line"]
