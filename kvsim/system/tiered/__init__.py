"""The single node and the cluster with memory pools: unified instances on tiers, policies side by side."""
