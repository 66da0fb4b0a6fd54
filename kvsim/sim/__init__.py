"""Simulated time: engines, tiers, networks and routers, and the systems that they make up. Compiled as one package."""
