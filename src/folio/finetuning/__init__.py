"""Turning a pretrained model to a task: examples, methods, and the making of examples."""
