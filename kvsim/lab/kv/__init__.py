"""The KV lab: what KV reuse buys, in controlled runs of a server that is simulated or there."""
