"""The model behind the service: its life, its queue, its processes."""
