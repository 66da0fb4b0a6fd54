"""The links that KV takes between instances, which concurrent transfers share."""
